/* No templates, no classes of our own: functions and pointers, filled in by hand. */
#include "projections.hpp"
#include <stdio.h>
#include <string.h>

typedef projections::status status;

struct my_log { const char* const* lines; int count; };
struct my_slot { projections::checkpoint saved; int saves; };
struct my_model { unsigned created, shipped, other; };
struct my_sink { unsigned letters; char handler[16]; };

static status log_read(void* self, projections::position after, projections::visitor& visit)
{
    const my_log* log = static_cast<const my_log*>(self);
    for (int i = static_cast<int>(after) + 1; i < log->count; ++i) {
        const char* colon = strchr(log->lines[i], ':');
        projections::stored_event e;
        e.at = i;
        e.type = projections::text(log->lines[i], static_cast<size_t>(colon - log->lines[i]));
        e.payload = projections::bytes(colon + 1, strlen(colon + 1));
        if (!visit(e)) break;
    }
    return status::ok;
}
static status slot_load(void* self, projections::text, projections::checkpoint& out)
{
    out = static_cast<my_slot*>(self)->saved;
    return status::ok;
}
static status slot_save(void* self, projections::text, const projections::checkpoint& next)
{
    my_slot* slot = static_cast<my_slot*>(self);
    slot->saved = next;
    ++slot->saves;
    return status::ok;
}
static status letter_put(void* self, const projections::dead_letter& l)
{
    my_sink* sink = static_cast<my_sink*>(self);
    ++sink->letters;
    memcpy(sink->handler, l.handler.data(), l.handler.size());
    return status::ok;
}
static void on_notice(void* self, const projections::notice& n)
{
    if (n.kind == projections::notice_kind::handler_failed) ++*static_cast<unsigned*>(self);
}
static projections::verdict created(void* self, const projections::stored_event&,
                                    const projections::context&)
{
    ++static_cast<my_model*>(self)->created;
    return projections::handled;
}
static projections::verdict shipped(void* self, const projections::stored_event& e,
                                    const projections::context& c)
{
    if (e.payload.size() == 0) return projections::reject(22);
    if (c.attempt < 2) return projections::fail(11);
    ++static_cast<my_model*>(self)->shipped;
    return projections::handled;
}

int main()
{
    static const char* const lines[] = { "OrderCreated:1", "OrderShipped:1", "OrderCreated:2",
                                         "OrderLost:2", "OrderShipped:" };
    static my_log log = { lines, 5 };
    static my_slot slot;
    static my_model model;
    static my_sink sink;
    static unsigned failures;
    static projections::handler_map<4> handlers;
    handlers.add("OrderCreated", created, &model).add("OrderShipped", shipped, &model, "ship");

    static projections::projection p;
    p.name = "orders";
    p.log.self = &log;
    p.log.read = log_read;
    p.checkpoints.self = &slot;
    p.checkpoints.load = slot_load;
    p.checkpoints.save = slot_save;
    p.dead_letters.self = &sink;
    p.dead_letters.put = letter_put;
    p.observe = { on_notice, &failures };
    p.handlers = handlers;
    p.on_error = projections::error_policy::retry_then_dead_letter(3);
    p.poll_ms = projections::never;
    static projections::worker worker(p);

    const status rc = worker.start();
    if (rc != status::ok) {
        fprintf(stderr, "%s\n", projections::to_string(rc));
        return 1;
    }
    unsigned now = 0;
    for (;;) {
        const projections::tick_result r = worker.tick(now);
        if (r.wait_ms == projections::never) break;
        now += r.wait_ms;
    }
    worker.stop();
    while (worker.running()) now += worker.tick(now).wait_ms;
    printf("%u created, %u shipped, %u failures, %u letters of \"%s\", checkpoint %d\n",
           model.created, model.shipped, failures, sink.letters, sink.handler,
           static_cast<int>(slot.saved.at));
    return model.created == 2 && model.shipped == 1 && failures == 2 && sink.letters == 1 &&
           strcmp(sink.handler, "ship") == 0 && slot.saved.at == 4 ? 0 : 2;
}
