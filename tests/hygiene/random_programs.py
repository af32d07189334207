#!/usr/bin/env python3
"""Random events, handlers and logs, compiled and compared with what this script foretells: a handler alone, a registry,
a handler_map and workers must call the same on() in the same order with the same values, by name and by number.

    random_programs.py [SEED...]        some seeds, or those named; a failure names the seed that repeats it
"""

import pathlib
import random
import sys

from toolbox import HYGIENE, ROOT, Tally, compilers, in_parallel, run, scratch, spelled

SEEDS = range(1, 9)
FLAGS = [["-O0"], ["-O2"], ["-Os"], ["-O2", "-std=c++20"], ["-Os", "-fno-exceptions", "-fno-rtti"],
         ["-O1", "-fsanitize=undefined,address", "-fno-sanitize-recover=all"]]
SIZES = [1, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 23, 24, 25, 31, 32, 33, 63, 64, 65, 127, 200, 252, 253]
EVERY, PARENT = 99, 50
ANSWERS = ["void", "pj::verdict", "pj::status"]
FORMS = ["{0} on(const {1}& e{2})", "{0} on(const {1}& e{2}) const", "{0} on({1} e{2})", "{0} on({1} e{2}) const",
         "static {0} on(const {1}& e{2})", "static {0} on({1} e{2})", "virtual {0} on(const {1}& e{2})",
         "{0} on(const {1}& e{2}) noexcept", "{0} on(const {1}& e{2}) &"]
CONTEXTS = ["", "", ", const pj::context&", ", pj::context"]


def fnv1a(name):
    value = 2166136261
    for byte in name:
        value = (value ^ byte) * 16777619 & 0xFFFFFFFF
    return value or 1


def literal(name):
    return f'pj::text("{"".join(f"{chr(92)}{byte:03o}" for byte in name)}", {len(name)})'


def answered(how, handler, event, value, patient):
    """(kind, argument) of what as_verdict() and as_status() make of it; None if that is handled."""
    chosen = (handler * 7 + event * 3 + value) % 11
    if how == "void" or chosen > 2 or (chosen == 2 and patient):
        return None
    if chosen == 2:
        return 1, 0
    if how == "pj::status":
        return (2, 2) if chosen == 0 else None
    return (2, 5) if chosen == 0 else (3, 6)


class Names:
    """Names and numbers, none twice: with nothing in common, with much, or with zeros in them."""

    def __init__(self, rng):
        self.rng, self.used = rng, set()
        self.style = rng.choice(["any", "zeros", "head", "tail", "middle", "digits"])
        self.common = bytes(rng.choices(b"abcdefgh", k=40))

    def make(self):
        rng, common = self.rng, self.common
        few = bytes(rng.choices(b"abcd", k=rng.randint(0, 4)))
        return {
            "any": lambda: bytes(rng.choices(b"abcXYZ.\xc3\xa4", k=rng.choice(SIZES))),
            "zeros": lambda: bytes(rng.choices(b"\0ab", k=rng.choice(SIZES))),
            "head": lambda: common[:rng.randint(1, 40)] + few,
            "tail": lambda: few + common[rng.randint(0, 39):],
            "middle": lambda: common + bytes(rng.choices(b"ab", k=rng.choice([1, 4, 8]))) + common,
            "digits": lambda: b"event%04d" % rng.randint(0, 9999),
        }[self.style]()

    def name(self):
        while True:
            made = self.make()
            if fnv1a(made) not in self.used:
                self.used.add(fnv1a(made))
                return made

    def number(self):
        rng = self.rng
        while True:
            made = rng.choice([1, 0xFFFFFFFF, 0x80000000, rng.randint(1, 255) << rng.choice([0, 8, 16, 24]),
                               rng.getrandbits(32)])
            if made and made not in self.used:
                self.used.add(made)
                return made


class Event:
    def __init__(self, rng, names, index, parents):
        self.index, self.parent = index, rng.choice([None, *range(parents)])
        kind = rng.choice(["name", "name", "number", "both"])
        self.name = b"" if kind == "number" else names.name()
        self.number = fnv1a(self.name) if kind == "name" else names.number()
        self.states_number = kind != "name"
        self.how = rng.choice(["raw", "raw", "member", "nearby", "versions", "traits"])
        self.version = 2 if self.how == "versions" else rng.choice([1, 1, 3])
        self.also = [names.name() for _ in range(rng.choice([0, 0, 1, 2]))]

    def spelled(self):
        i = self.index
        words = [literal(self.name)] if self.name else []
        words += [f"pj::id{{{self.number}u}}"] if self.states_number else []
        words += ["pj::raw"] if self.how == "raw" else []
        words += [f"pj::schema{{{self.version}}}"] if self.version != 1 else []
        kind = f"static constexpr pj::event_type type{{{', '.join(words)}}};"
        if self.also:
            kind += f" static constexpr pj::event_type also[]{{{', '.join(f'{{{literal(n)}}}' for n in self.also)}}};"
        decode = (f"(const pj::stored_event& in, event{i}& out) {{ uint32_t both[2]; if (!in.payload.copy_to(both)) "
                  "return false; out.tag = both[0]; out.value = both[1]; return true; }")
        before = after = body = ""
        if self.how in ("member", "versions"):
            body = f"static bool decode{decode}"
        if self.how == "versions":
            before = (f"struct old{i} {{ uint16_t value = 0; static bool decode(const pj::stored_event& in, "
                      f"old{i}& out) {{ return in.payload.copy_to(out.value); }} }};\n")
            body += f" using previous = old{i}; void upcast(const old{i}& old) {{ tag = 7; value = old.value + 500u; }}"
        if self.how == "nearby":
            after = f"inline bool decode_event{decode}\n"
        if self.how == "traits":
            after = f"template<> struct projections::event_traits<event{i}> {{ {kind} static bool decode{decode} }};\n"
            kind = ""
        base = "" if self.parent is None else f" : parent{self.parent}"
        tag = "uint32_t tag; " if self.parent is None else ""
        return (f"{before}struct event{i}{base} {{ {kind} static constexpr unsigned index = {i}; {tag}uint32_t value; "
                f"{body} }};\n{after}")

    def read(self, stored):
        """What decode() makes of a stored event: (tag, value), or None."""
        if self.how == "versions" and stored.version < 2:
            return (7, stored.value + 500) if stored.size == 2 else None
        if self.how == "raw" and stored.version != self.version:
            return None
        return (stored.tag, stored.value) if stored.size == 8 else None


class Handler:
    """`takes`: for each event the answer's type and the number it is noted under."""

    def __init__(self, rng, index, events):
        self.index, self.takes, self.functions, self.inherited = index, {}, [], []
        self.live = rng.random() < 0.25
        self.mode = rng.choice(["events", "events", "matching", "every"])
        self.listed = [] if self.mode == "every" else rng.sample(events, rng.randint(1, len(events)))
        self.choose(rng)

    def function(self, how, form, parameter, context, number, value, by_template="false"):
        noted = f"note({self.index}, {number}, {value}, {by_template})"
        body = {"void": f"{noted};", "pj::verdict": f"return as_verdict({noted});",
                "pj::status": f"return as_status({noted});"}[how]
        return f"{form.format(how, parameter, context)} {{ {body} }}"

    def choose(self, rng):
        if self.mode == "every":
            self.answer = rng.choice(ANSWERS)
            self.functions.append(self.function(self.answer, FORMS[0], "pj::stored_event", rng.choice(CONTEXTS[1:3]),
                                                EVERY, "static_cast<unsigned>(e.at)"))
            return
        rest = rng.choice(["template", "parents", None]) if self.mode == "matching" else rng.choice(["template", None])
        parents = sorted({e.parent for e in self.listed} - {None}) if rest == "parents" else []
        context = rng.choice(["", ", const pj::context&"])      # a template's
        for event in self.listed:
            # The first of a list has its own, so that a catalogue is never of what nobody takes.
            if event is self.listed[0] or rng.random() < (1 if self.mode == "events" and not rest else 0.5):
                self.own(rng, event, rest, context)
        for parent in parents:
            how = rng.choice(ANSWERS)
            self.functions.append(self.function(how, FORMS[0], f"parent{parent}", rng.choice(CONTEXTS[1:3]),
                                                PARENT + parent, "e.tag"))
            for event in self.listed:
                if event.parent == parent:
                    self.takes.setdefault(event.index, (how, "parent"))
        if rest == "template":
            how = rng.choice(ANSWERS)
            self.functions.append("template<class E> " + self.function(how, FORMS[0], "E", context, "E::index",
                                                                       "e.tag * 1000 + e.value", "true"))
            for event in self.listed:
                self.takes.setdefault(event.index, (how, "template"))
        rng.shuffle(self.functions)

    def own(self, rng, event, rest, template_context):
        """Where C++ itself would call another one (a const on() beside a template or a parent's that is not) or where a
        context decides, the usual form."""
        forms = [form for form in FORMS if rest is None or not form.endswith(" const")]
        form = FORMS[0] if rest == "template" and template_context else rng.choice(forms)
        how = rng.choice(ANSWERS)
        made = self.function(how, form, f"event{event.index}", rng.choice(CONTEXTS), event.index,
                             "e.tag * 1000 + e.value")
        usual = form == FORMS[0] and rest != "template"
        (self.inherited if usual and rng.random() < 0.3 else self.functions).append(made)
        self.takes[event.index] = (how, "own")

    def spelled(self):
        handles = "pj::every_event"
        if self.mode != "every":
            handles = f"pj::events<{', '.join(f'event{e.index}' for e in self.listed)}>"
        if self.mode == "matching":
            handles = f"pj::matching<{handles}>"
        if self.live:
            handles = f"pj::live_only<{handles}>"
        above = base = using = ""
        if self.inherited:
            above = f"struct above{self.index} {{ {' '.join(self.inherited)} }};\n"
            base = f" : above{self.index}"
            using = f"using above{self.index}::on; "
        return (f"{above}struct handler{self.index}{base} {{ using handles = {handles}; {using}"
                f"{' '.join(self.functions)} }};\n")


class Stored:
    """An event in the log: the key of one of the events, or of none, and its payload, or another."""

    def __init__(self, rng, position, events):
        event = rng.choice(events)
        self.at, self.tag, self.value = position, rng.randint(0, 30), rng.randint(0, 200)
        self.replaying = rng.random() < 0.25
        keys = [event.number, *event.also, *map(fnv1a, event.also)] + [event.name] * (3 if event.name else 0)
        near = event.name or b"q"
        keys_of_nobody = [0, event.number ^ 1 << 24, rng.getrandbits(32), near[:-1] or b"z", near + b"x", near + b"\0",
                          bytes([near[0] ^ 1]) + near[1:], near[:-1] + bytes([near[-1] ^ 1]), near * 260]
        self.key = rng.choice(keys_of_nobody if rng.random() < 0.15 else keys)
        is_old = event.how == "versions" and rng.random() < 0.5
        self.version = 1 if is_old else event.version
        self.size = 1 if rng.random() < 0.1 else 2 if is_old else 8
        self.is_old = is_old

    def payload(self):
        return ", ".join([f"{self.value}, 0"] if self.is_old else
                         [f"{self.tag}, 0, 0, 0", f"{self.value}, 0, 0, 0"])

    def spelled(self):
        key = f"pj::id{{{self.key}u}}" if isinstance(self.key, int) else literal(self.key)
        return (f"{{{self.at}, {key}, pj::bytes(payloads[{self.at}], {self.size}), {{}}, {self.version}, pj::no_key, "
                "0, nullptr}")


def foretell(stored, events, handlers, patient, replaying):
    """The calls for one event, and the first answer that is not `handled` (4, 0: that is left to the engines)."""
    keys = {key: e for e in events for key in (e.name, e.number, *e.also, *map(fnv1a, e.also)) if key
            if any(e in h.listed for h in handlers)}
    event = keys.get(stored.key)
    read = event.read(stored) if event else None
    calls, first = [], None
    is_unreadable = False
    for handler in handlers:
        if replaying and handler.live:
            continue
        if handler.mode == "every":
            how, number, value, noted = handler.answer, EVERY, stored.at, stored.at
        elif event and event in handler.listed and event.index in handler.takes:
            if read is None:
                is_unreadable = True
                continue
            how, by = handler.takes[event.index]
            number = PARENT + event.parent if by == "parent" else event.index
            noted = read[0] if by == "parent" else read[0] * 1000 + read[1]
            value = noted
        else:
            continue
        is_template = handler.mode != "every" and handler.takes[event.index][1] == "template"
        calls.append((handler.index, number, noted, int(is_template)))
        first = first or answered(how, handler.index, number, value, patient)
    return calls, (4, 0) if is_unreadable else first or (0, 0)


def program(seed):
    rng = random.Random(seed)
    names, parents = Names(rng), rng.randint(0, 3)
    events = [Event(rng, names, i, parents) for i in range(rng.randint(1, 14))]
    handlers = [Handler(rng, i, events) for i in range(rng.choice([1, 1, 2, 3, 4, 6]))]
    log = [Stored(rng, i, events) for i in range(rng.randint(20, 60))]
    text = ['#include "random_programs.hpp"\n']
    text += [f"struct parent{i} {{ uint32_t tag; }};\n" for i in range(parents)]
    text += [one.spelled() for one in events + handlers]
    text.append(f"static const unsigned char payloads[][8] = {{{', '.join(f'{{{s.payload()}}}' for s in log)}}};\n")
    text.append(f"static const pj::stored_event log[] = {{{', '.join(s.spelled() for s in log)}}};\n")
    calls, wanted = [(0, 0, 0, 0)], []
    for stored in log:
        made, (kind, argument) = foretell(stored, events, handlers, False, stored.replaying)
        wanted.append(f"{{{len(calls)}, {len(made)}, {kind}, {argument}, {str(stored.replaying).lower()}}}")
        calls += made
    begin = len(calls)
    for stored in log:
        calls += foretell(stored, events, handlers, True, False)[0]
    text.append(f"static const call made[] = {{{', '.join('{%d, %d, %d, %d != 0}' % c for c in calls)}}};\n")
    text.append(f"static const foretold wanted[] = {{{', '.join(wanted)}}};\n")
    objects = [f"object{h.index}" for h in handlers]
    text.append("int main() {\n")
    text += [f"    static handler{h.index} object{h.index}{{}};\n" for h in handlers]
    text.append(f"    static pj::registry all{{{', '.join(objects)}}};\n    static pj::handler_map<400> map;\n")
    text += [f"    map.add({one});\n" for one in objects]
    text.append('    expect(map.fault() == pj::status::ok, "fault", 0);\n')
    for who in ["all", "map"] + objects * (len(objects) == 1):
        text.append(f'    delivered("{who}", {who}, log, wanted, made);\n')
        text.append(f'    worked("{who}", {who}, log, made + {begin}, {len(calls) - begin});\n')
    text.append("    return failures != 0;\n}\n")
    return "".join(text)


def check(folder, seed, family, path):
    made = pathlib.Path(folder, f"{seed}-{family}")     # beside the other compiler's, which runs at the same time
    source = made.with_suffix(".cpp")
    source.write_text(program(seed), encoding="utf-8")
    flags = FLAGS[(seed + (family != "g++")) % len(FLAGS)]
    command = [path, "-std=c++17", *flags, "-I", ROOT, "-I", HYGIENE, source, "-o", made]
    code, output = run(command)
    if code == 0:
        code, output = run([made], timeout=60)
    return code == 0, f"random_programs.py {seed}: {spelled(command)}", output[:2000]


def main():
    seeds = [int(word) for word in sys.argv[1:]] or SEEDS
    tally = Tally()
    with scratch() as folder:
        jobs = [(folder, seed, *found) for seed in seeds for found in compilers().items()]
        for result in in_parallel(lambda job: check(*job), jobs):
            tally.check(*result)
    tally.exit()


if __name__ == "__main__":
    main()
