"""What a compiler pays: for registering event types, and for the include."""

import os
import shutil

from measure import CLANGXX, CXX, HEADER, STANDARD, compiler_instructions, compiler_name, fastest_by_turns, progress
from workloads import PEERS, names

SEPARATE = ['-DPROJECTIONS_SEPARATE']
OURS = '#include "projections.hpp"\n'
MOST_SIGNALS = 64                   # a thousand lambdas given to signals take minutes and gigabytes

EVENT_STRUCT = '''struct event_%(i)d {
%(type)s    %(amount)s amount;
    uint32_t quantity;
};
'''


def event_structs(count, style='short', typed=False):
    return ''.join(EVENT_STRUCT % {
        'i': i, 'amount': 'uint64_t' if i % 2 else 'uint32_t',
        'type': '    static constexpr pj::event_type type{"%s", pj::raw};\n' % name if typed else ''}
        for i, name in enumerate(names(count, style)))


def registered(count):
    """`count` event types registered with one handler class, and a function that delivers to it."""
    out = ['#include "projections.hpp"\nnamespace pj = projections;\n', event_structs(count, typed=True)]
    out.append('struct model {\n    using handles = pj::events<%s>;\n    uint64_t totals[%d];\n'
               % (', '.join('event_%d' % i for i in range(count)), count))
    for i in range(count):
        out.append('    void on(const event_%d& e) { totals[%d] += e.amount + e.quantity; }\n' % (i, i))
    out.append('''};
model read_model;
pj::registry handlers{read_model};
pj::status run(pj::event_store log, pj::checkpoint_store checkpoints) {
    pj::projection projection{"compiled", log, handlers, checkpoints};
    pj::worker worker{projection};
    pj::status started = worker.start();
    while (worker.running() && worker.tick(0).wait_ms == 0) {}
    return started;
}
''')
    return ''.join(out)


def by_hand(count):
    """As many functions: decode, handle, an entry in a table that is searched by name."""
    out = ['#include <stddef.h>\n#include <stdint.h>\n#include <string.h>\n', event_structs(count)]
    out.append('struct model {\n    uint64_t totals[%d];\n};\n' % count)
    for i in range(count):
        out.append('''static bool on_%(i)d(model& m, const void* payload, size_t size) {
    event_%(i)d e;
    if (size != sizeof e) return false;
    memcpy(&e, payload, sizeof e);
    m.totals[%(i)d] += e.amount + e.quantity;
    return true;
}
''' % {'i': i})
    out.append('''struct entry {
    const char* name;
    size_t size;
    bool (*call)(model&, const void*, size_t);
};
static const entry entries[] = {
''')
    for i, name in enumerate(names(count, 'short')):
        out.append('    {"%s", %d, &on_%d},\n' % (name, len(name), i))
    out.append('''};
model read_model;
bool dispatch(const char* name, size_t name_size, const void* payload, size_t size) {
    for (const entry& e : entries) {
        if (e.size == name_size && memcmp(e.name, name, name_size) == 0)
            return e.call(read_model, payload, size);
    }
    return false;
}
''')
    return ''.join(out)


def subscribed(count, includes, slot, add, call):
    """The same with a map from the name to something that lambdas are given to."""
    out = ['#include <stddef.h>\n#include <stdint.h>\n#include <string.h>\n#include <string>\n'
           '#include <unordered_map>\n', includes, event_structs(count)]
    out.append('''struct stored {
    std::string name;
    const void* payload;
    size_t size;
};
struct model {
    uint64_t totals[%d];
};
model read_model;
std::unordered_map<std::string, %s> all;
void subscribe() {
''' % (count, slot))
    for i, name in enumerate(names(count, 'short')):
        out.append('''    all["%s"].%s([](const stored& s) {
        event_%d e;
        if (s.size != sizeof e) return;
        memcpy(&e, s.payload, sizeof e);
        read_model.totals[%d] += e.amount + e.quantity;
    });
''' % (name, add, i, i))
    out.append('''}
bool dispatch(const stored& event) {
    const auto found = all.find(event.name);
    if (found == all.end()) return false;
    %s
    return true;
}
''' % call)
    return ''.join(out)


def with_functions(count):
    return subscribed(count, '#include <functional>\n#include <vector>\n',
                      'std::vector<std::function<void(const stored&)>>', 'push_back',
                      'for (const auto& handle : found->second) handle(event);')


def with_signals(peer):
    of = {'sigc': 'sigc::signal<void(const stored&)>', 'boost': 'boost::signals2::signal<void(const stored&)>'}[peer]
    return lambda count: subscribed(count, '#include %s\n' % PEERS[peer].include, of, 'connect',
                                    'found->second(event);')


def write(build_dir, name, text):
    path = os.path.join(build_dir, name)
    with open(path, 'w', encoding='utf-8') as out:
        out.write(text)
    return path


def compile_time(report, build_dir, peers):
    """Ratios of compilations that run by turns."""
    report.section('compiling as many types and functions, CPU time of -O2 -c', 'types', 'as a ratio to by hand',
                   'budget')
    flags = [STANDARD, '-O2', '-c', '-o', os.devnull, '-I' + HEADER[0]]
    sources = {'by hand: a table of functions': (by_hand, []), 'registered types': (registered, []),
               'registered types, PROJECTIONS_SEPARATE': (registered, SEPARATE),
               'unordered_map of vectors of std::function': (with_functions, [])}
    for count in (64, 1024):
        progress('compiling %d types' % count)
        for peer, installed in peers.items():
            label = '%s, unordered_map of signals' % PEERS[peer].name
            sources.pop(label, None)
            if installed and count <= MOST_SIGNALS:
                sources[label] = (with_signals(peer), installed[0])
        files = [write(build_dir, 'compiled_%d_%d.cpp' % (count, i), source(count))
                 for i, (source, _) in enumerate(sources.values())]
        times = fastest_by_turns([CXX + flags + more + [file]
                                  for file, (_, more) in zip(files, sources.values())], 3)
        for label, time in zip(sources, times):
            registers, label = sources[label][0] is registered, '%s, %s' % (label, compiler_name(CXX))
            budget = '3x, %s' % report.verdict('%d %s' % (count, label), time / times[0], 3) if registers else ''
            report.add(label, str(count), '%.1fx (%.2f s)' % (time / times[0], time), budget)
        if shutil.which(CLANGXX[0]):
            # That it compiles at all is the point: clang limits constexpr steps and nesting.
            hand, ours = fastest_by_turns([CLANGXX + flags + [file] for file in files[:2]], 2)
            report.add('registered types, %s' % compiler_name(CLANGXX), str(count),
                       '%.1fx (%.2f s)' % (ours / hand, ours), '')
        else:
            report.notes.append('%s is not installed: not tried with it' % CLANGXX[0])


def include_time(report, build_dir, peers):
    """What every file that includes it pays."""
    report.section('the include alone, CPU time', 'options', 'as a ratio to an empty translation unit', 'budget')
    sources = {'empty': ('', []), 'projections.hpp': (OURS, []),
               'projections.hpp, PROJECTIONS_SEPARATE': (OURS, SEPARATE),
               'functional, string, unordered_map':
                   ('#include <functional>\n#include <string>\n#include <unordered_map>\n', [])}
    for peer, installed in peers.items():
        if installed:
            sources[PEERS[peer].include.strip('<>')] = ('#include %s\n' % PEERS[peer].include, installed[0])
    files = [write(build_dir, 'include_%d.cpp' % i, text) for i, (text, _) in enumerate(sources.values())]
    for flags in (['-fsyntax-only'], ['-c', '-o', os.devnull]):
        progress('including ' + flags[0])
        times = fastest_by_turns([CXX + [STANDARD] + flags + ['-I' + HEADER[0]] + more + [file]
                                  for file, (_, more) in zip(files, sources.values())], 10)
        for label, time in zip(sources, times):
            if label == 'empty':
                continue
            ratio, budget = time / times[0], ''
            if sources[label][0] == OURS:
                budget = '4x, %s' % report.verdict('including %s, %s' % (label, flags[0]), ratio, 4)
            report.add(label, flags[0], '%.1fx (%.0f ms against %.0f)' % (ratio, time * 1000, times[0] * 1000),
                       budget)
    for label, figure in (('sml', '2.9 to 3.8x'), ('eventpp', '36x'), ('ETL delegate', '41x'), ('EnTT', '77x')):
        report.add(label, '', figure, 'quoted, not measured here')


def include_count(report, build_dir):
    """Shows whether a change made it better. It is not the budget's: an empty file costs few instructions and,
    like any, the time to start a process."""
    progress('including, counted')
    sources = [write(build_dir, 'counted_%s.cpp' % name, text) for name, text in (
        ('empty', ''), ('whole', OURS), ('separate', '#define PROJECTIONS_SEPARATE\n' + OURS))]
    counts = compiler_instructions(sources)
    report.section('the include alone, instructions of the compiler', 'options', 'as a ratio to an empty '
                   'translation unit', 'budget')
    for label, count in (('projections.hpp', counts[1]), ('projections.hpp, PROJECTIONS_SEPARATE', counts[2])):
        report.count(label + ', instructions', count / counts[0])
        report.add(label, '-fsyntax-only', '%.1fx (%d against %d million)'
                   % (count / counts[0], count // 1000000, counts[0] // 1000000), '')
