"""The part of `run` that needs emulators: what five programs take on five machines, and how many instructions
an event costs there. See `run --machines`.

Stack is given twice: as the deepest path of the compiler's call graph (the user's own functions count as nothing;
not for clang's AVR), and as seen on a painted stack by playing.cpp, in which everything fails now and then (the
user's functions and the decoded event are in it, and it need not have met the deepest path).
"""

import concurrent.futures
import os
import re
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TARGETS = os.path.join(os.path.dirname(HERE), 'targets')
BOARDS = os.path.join(TARGETS, 'boards')
EMULATE = os.path.join(TARGETS, 'emulate')

# What the rows consist of: features of firmware.cpp.
PROGRAMS = [
    ('core', []),
    ('+ sink', ['sink']),
    ('+ replay', ['replay']),
    ('+ partitions with SHA-256', ['partition']),
    ('everything', None),           # EVERYTHING of `run`
]
# Stores that hold one event and one record would keep the others from work; sizes have them.
UNPLAYED = ('memory_log', 'memory_checkpoint_store', 'repartition')

# (what, budget, figure): instructions per event, 8 types by 2 handlers. A missed budget is stated with
# the figure that the README has, and fails if it grows.
INSTRUCTIONS = {
    ('Cortex-M4F', '-O2', 'by name'): (130, None),
    ('Cortex-M4F', '-O2', 'by id'): (80, None),
    ('Cortex-M0', '-Os', 'by name'): (450, None),
    ('Cortex-M0', '-Os', 'by id'): (300, None),
}

# (flash, stack by call graph) that were meant. Missed ones are stated; the ceilings keep them from growing.
BUDGETS = {
    ('Cortex-M0', 'core'): (4096, 512),
    ('Cortex-M0', 'everything'): (10240, None),
}

# What the rows took when they were last looked at, rounded up (flash, RAM, stack by call graph, painted). One that
# grows beyond fails, so that it is a decision and not an accident; `run --machines --ceilings` prints new ones.
CEILINGS = {
    ('Cortex-M0', 'core'): (7808, 264, 512, 592),
    ('Cortex-M0', '+ sink'): (10688, 608, 560, 624),
    ('Cortex-M0', '+ replay'): (11200, 656, 544, 624),
    ('Cortex-M0', '+ partitions with SHA-256'): (9856, 344, 672, 768),
    ('Cortex-M0', 'everything'): (27456, 2443, 880, 848),
    ('Cortex-M3', 'core'): (7872, 264, 472, 576),
    ('Cortex-M3', '+ sink'): (10688, 608, 520, 608),
    ('Cortex-M3', '+ replay'): (11072, 656, 512, 608),
    ('Cortex-M3', '+ partitions with SHA-256'): (9856, 344, 636, 748),
    ('Cortex-M3', 'everything'): (27200, 2443, 844, 820),
    ('Cortex-M4F', 'core'): (7872, 264, 480, 584),
    ('Cortex-M4F', '+ sink'): (10624, 608, 528, 616),
    ('Cortex-M4F', '+ replay'): (11008, 656, 512, 616),
    ('Cortex-M4F', '+ partitions with SHA-256'): (9856, 344, 636, 748),
    ('Cortex-M4F', 'everything'): (27136, 2443, 852, 820),
    ('RISC-V 32', 'core'): (8896, 264, 528, 516),
    ('RISC-V 32', '+ sink'): (11776, 608, 576, 564),
    ('RISC-V 32', '+ replay'): (12288, 656, 576, 564),
    ('RISC-V 32', '+ partitions with SHA-256'): (11072, 344, 656, 736),
    ('RISC-V 32', 'everything'): (30592, 2443, 880, 848),
    ('AVR', 'core'): (23872, 758, None, 471),
    ('AVR', '+ sink'): (31040, 1240, None, 471),
    ('AVR', '+ replay'): (33600, 1304, None, 471),
    ('AVR', '+ partitions with SHA-256'): (29632, 1122, None, 635),
    ('AVR', 'everything'): (91136, 4389, None, 660),
}

# The painted stack has in it what the call graph leaves out: the user's frames and the decoded event. If it has
# more, a path is missing from the graph.
USERS_SHARE = 128


class Machine:
    def __init__(self, name, emulated_as, target, start, script, link=()):
        self.name, self.emulated_as, self.target = name, emulated_as, target
        self.start, self.script, self.link = start, script, list(link)

    def is_installed(self):
        return shutil.which(self.target.command[0]) is not None


def machines(size):
    riscv = size.Target('RISC-V 32', size.RISCV.command[0], size.RISCV.flags, True)
    no_warning = ['-Wl,--no-warn-rwx-segments']
    return [
        Machine('Cortex-M0', 'cortex-m0', size.ARM, 'start_cortex_m.cpp', 'microbit.ld'),
        Machine('Cortex-M3', 'cortex-m3', arm(size, 'Cortex-M3', ['-mcpu=cortex-m3', '-mthumb']),
                'start_cortex_m.cpp', 'mps2.ld'),
        Machine('Cortex-M4F', 'cortex-m4f',
                arm(size, 'Cortex-M4F', ['-mcpu=cortex-m4', '-mthumb', '-mfpu=fpv4-sp-d16', '-mfloat-abi=hard']),
                'start_cortex_m.cpp', 'mps2.ld'),
        Machine('RISC-V 32', 'riscv32', riscv, 'start_riscv.cpp', 'virt.ld', no_warning),
        Machine('AVR', 'avr', avr(size), 'start_avr.cpp', None),
    ]


def arm(size, name, flags):
    return size.Target(name, size.ARM.command[0], flags, True)


def avr(size):
    return size.Target('AVR', os.environ.get('AVR_CXX', 'clang++-14'), ['--target=avr', '-mmcu=atmega1284p'], True)


def is_avr(machine):
    return machine.script is None


# ------------------------------------------------------------------------------- a stricter call graph


def paths_of(size):
    """The call graph of `run`, with every call through a pointer resolved by the member that is called: with
    several engines in one program, hooks of one must not be taken for another's."""

    class Paths(size.Stack):
        HOOK = r'(sink|replay|partition|lease)_hooks::%s\('
        ONES = {'loaded_': r'crash_guard::loaded\(', 'allows_': r'crash_guard::allows\(',
                'passes_': r'gap_guard::passes\(',
                'handler_name': r'::name_of\(',
                'read': r'event_store.*lambda\(.*visitor&\)',
                'bounds': r'event_store.*lambda\(.*long long&, unsigned long long&\)',
                'load': r'checkpoint_store.*lambda\(.*text, [\w:]*checkpoint&\)',
                'save': r'checkpoint_store.*lambda\(.*checkpoint const&\)',
                'acquire': r'lease_store.*lambda\(.*text, unsigned long, unsigned long long&\)',
                'extend': r'lease_store.*lambda\(.*text, unsigned long, unsigned long long\)',
                'release': r'lease_store.*lambda\(.*text, unsigned long long\)',
                'put': r'dead_letter_sink.*lambda\(void\*, [\w:]*failure const&\)',
                'first': r'dead_letter_sink.*letter_visitor&\)', 'evict': r'dead_letter_sink.*, long long\)',
                'sequences': r'dead_letter_sink.*sequence_visitor&\)',
                'then_': r'sequence_hooks::(deliver_letter|put_again)\(',
                'begin': r'unit_of_work::unit_of_work', 'commit': r'unit_of_work::unit_of_work',
                'rollback': r'unit_of_work::unit_of_work', 'code_': r'detail::look_at_bounds\(',
                'call_': r'callback<.*>::(plainly|by_hand|named)\b'}
        NOBODYS = ('subscribe', 'unsubscribe', 'plain_', 'by_hand_')     # the user's, or no client is named

        def __init__(self, image):
            self.unknown = []
            try:
                super().__init__(image)
            except SystemExit:      # it wants a read() of the user's that shows events one by one
                pass

        def reached_by_pointer(self, name):
            found = set()
            for line in self.pointers.get(name, ()):
                found |= self.callees(name, line)
            return found

        def callees(self, name, line):
            if self.WRAPPER.search(self.spelled[name]) and 'operator()' not in self.spelled[name]:
                return set()
            if 'return call_(*this, arguments...)' in line:
                return self.matching(self.ONES['call_'])
            if line.strip() == 'then_(*this, event);':
                return self.matching(self.ONES['then_'])
            spelled = self.member_of(line)
            if spelled is None or spelled in self.NOBODYS:
                if spelled is None:
                    self.unknown.append('%s: %s' % (self.spelled[name], line.strip()))
                return set()
            if spelled == 'route':
                return self.routes
            if spelled in self.ONES:
                return self.matching(self.ONES[spelled])
            kinds, member = spelled
            return self.matching(r'(%s)_hooks::%s\(' % (kinds, member))

        def member_of(self, line):
            """What a line calls: a key of ONES, 'route', or (kinds of hooks, member). None: not known."""
            if re.search(r'\b(route|to|found)\.(call|run)\)?\(', line) or re.search(r'\(route\.\w+\)\(', line):
                return 'route'
            if '(keeper().*step)(' in line:
                return 'lease', '(hold|confirm|give_back)'
            keeper = re.search(r'keeper(?:\(\)\.|_->)(\w+)\(', line)
            if keeper:
                return 'lease', keeper.group(1)
            hooks = re.search(r'\b(unit|sequence)s\(\)\.(\w+)\(', line)
            if hooks:
                return hooks.groups()
            role = re.search(r'role_->(\w+)\(', line)
            if role:
                return 'sink|replay|partition', role.group(1)
            for member in list(self.ONES) + list(self.NOBODYS):
                if re.search(r'(->|\.)%s\(' % member, line):
                    return member
            return None

        def matching(self, pattern):
            return {n for n in self.own if re.search(pattern, self.spelled[n]) and self.is_linked(n)}

        def deepest_below(self, name):
            """Below a function of the program that is not itself counted."""
            below = [self.deepest(t, (name,))[0]
                     for t in sorted(self.edges.get(name, set()) | self.reached_by_pointer(name))]
            if self.unknown:
                raise SystemExit('size: unknown calls through pointers:\n' + '\n'.join(set(self.unknown)))
            return max(below, default=0)

    return Paths


# ------------------------------------------------------------------------------------------ programs


def compiled(size, machine, folder, sources, options, name):
    """A firmware for the emulated board."""
    command = machine.target.command + machine.target.flags
    path = os.path.join(folder, name)
    link = ['-Wl,--gc-sections'] + machine.link
    if machine.script is not None:
        link += ['-nostdlib', '-L' + BOARDS, '-T' + machine.script, '-lgcc']
        sources = sources + [os.path.join(BOARDS, 'memory.cpp')]
    size.run(command + common(size, machine) + options + ['-I' + TARGETS, '-I' + HERE]
             + sources + [os.path.join(BOARDS, machine.start)] + link + ['-o', path])
    return path


def common(size, machine):
    return [size.STANDARD, '-fno-exceptions', '-fno-rtti', '-ffunction-sections', '-fdata-sections',
            '-fno-threadsafe-statics', '-Wall', '-Wextra', '-Werror', '-I' + size.Image.header] \
        + (['-Wno-return-type-c-linkage'] if is_avr(machine) else ['-ffreestanding'])


def emulated(machine, firmware, pattern, *options):
    """The number that a firmware prints. SystemExit if it does not pass."""
    done = subprocess.run([sys.executable, EMULATE, '--any-output', *options, machine.emulated_as, firmware],
                          stdout=subprocess.PIPE, text=True, check=False)
    found = re.search(pattern, done.stdout)
    if done.returncode != 0 or found is None:
        raise SystemExit('size: %s on %s: %s' % (os.path.basename(firmware), machine.name, done.stdout))
    return int(found.group(1))


def write_events(size, folder):
    os.makedirs(folder, exist_ok=True)
    names = size.event_names(size.FEW)
    with open(os.path.join(folder, 'events.inc'), 'w', encoding='ascii') as out:
        out.writelines('EVENT(%d, "%s")\n' % (i, name) for i, name in enumerate(names))
    with open(os.path.join(folder, 'every_event.inc'), 'w', encoding='ascii') as out:
        out.write(',\n'.join('event_%d' % i for i in range(len(names))) + '\n')


def painted(size, machine, build_dir, features):
    folder = os.path.join(build_dir, 'playing ' + machine.name)
    write_events(size, folder)
    options = ['-Os', '-I' + folder, '-DEVENT_TYPES=%d' % size.FEW, '-DANSWER=pj::verdict']
    options += ['-DFEATURE_' + f for f in features if f not in UNPLAYED]
    firmware = compiled(size, machine, folder, [os.path.join(HERE, 'playing.cpp')], options, 'playing.elf')
    return emulated(machine, firmware, r'deepest (\d+) B')


def avr_sizes(size, machine, build_dir, features):
    """(flash, RAM) of the library on an AVR, whose constants are in both. From the linker's map, as in `run`, but
    with the start-up and the C library of avr-libc, which do not count. (The user's few bytes of RAM are in it.)"""
    folder = os.path.join(build_dir, 'avr')
    write_events(size, folder)
    options = ['-Os', '-I' + folder, '-DEVENT_TYPES=%d' % size.FEW] + ['-DFEATURE_' + f for f in features]
    objects = []
    for source in ('firmware', 'callbacks'):
        objects.append(os.path.join(folder, source + '.o'))
        size.run(machine.target.command + machine.target.flags + common(size, machine) + options
                 + ['-c', os.path.join(HERE, source + '.cpp'), '-o', objects[-1]])
    size.run(machine.target.command + machine.target.flags + objects
             + ['-Wl,--gc-sections', '-Wl,-Map=' + os.path.join(folder, 'map'), '-o', os.path.join(folder, 'elf')])
    image = size.Image.__new__(size.Image)
    image.folder = folder
    image.read_map()
    ours = [s for s in image.sections if not re.match(r'callbacks\.o|crt|libc\.a', s[3])]
    return (sum(s[2] for s in ours if s[0] in size.FLASH), sum(s[2] for s in ours if s[0] in size.RAM))


def sizes(size, machine, build_dir, features):
    """(flash, RAM, stack by call graph or None)"""
    if is_avr(machine):
        return avr_sizes(size, machine, build_dir, features) + (None,)
    image = size.Image(machine.target, build_dir, size.FEW, 1, tuple(features))
    users = ('size_first', 'size_checkpoints', 'size_letters', 'size_locks')
    ram = image.amount(size.RAM) - sum(image.symbols[u][0] for u in users if u in image.symbols)
    return image.flash(), ram, paths_of(size)(image).deepest_below('main')


def instructions(size, machine, build_dir, optimization, kind):
    folder = os.path.join(build_dir, 'pace ' + machine.name)
    os.makedirs(folder, exist_ok=True)
    options = [optimization] + (['-DBY_ID'] if kind == 'by id' else [])
    firmware = compiled(size, machine, folder, [os.path.join(HERE, 'pace.cpp')], options, 'pace.elf')
    return emulated(machine, firmware, r'hundredths per event (\d+)', '--count') / 100


# -------------------------------------------------------------------------------------------- tables


def show(rows, markdown):
    width = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for number, row in enumerate(rows):
        if markdown:
            print('| ' + ' | '.join(row) + ' |')
            if number == 0:
                print('|---|---|' + '---:|' * (len(row) - 3) + '---|')
        else:
            print('  '.join(cell.ljust(w) if i < 2 else cell.rjust(w)
                            for i, (cell, w) in enumerate(zip(row, width))).rstrip())
    print()


def judged(key, figures, ceiling):
    """What the last column says of a row, and whether it fails."""
    flash, _, graph, deepest = figures
    names = ('flash', 'RAM', 'call graph', 'painted')
    above = ['%s ABOVE %d' % (name, most) for name, figure, most in zip(names, figures, ceiling or figures)
             if figure is not None and figure > most]
    if graph is not None and deepest > graph + USERS_SHARE:
        above.append('painted DEEPER than the call graph explains')
    if ceiling is None:
        above.append('NO CEILING')
    if above:
        return '; '.join(above), True
    budgets = [budget for figure, budget in zip((flash, graph), BUDGETS.get(key, ()))
               if budget is not None and figure > budget]
    return 'missed, known: ' + ' and '.join('%d B' % b for b in budgets) + ' meant' if budgets else 'ok', False


def size_rows(size, machine, build_dir):
    """{program: (flash, RAM, call graph, painted)}"""
    rows = {}
    for program, features in PROGRAMS:
        features = size.EVERYTHING if features is None else features
        rows[program] = sizes(size, machine, build_dir, features) + (painted(size, machine, build_dir, features),)
    return rows


def instruction_rows(size, machine, build_dir):
    rows, is_missed = [], False
    for optimization in ('-Os', '-O2'):
        for kind in ('by name', 'by id'):
            figure = instructions(size, machine, build_dir, optimization, kind)
            budget, known = INSTRUCTIONS.get((machine.name, optimization, kind), (None, None))
            verdict = '' if budget is None else 'ok' if figure <= budget else \
                'missed, known' if known is not None and figure <= known else 'MISSED'
            is_missed = is_missed or verdict == 'MISSED'
            rows.append((machine.name + ' ' + optimization, kind, '' if budget is None else str(budget),
                         '%.1f' % figure, verdict))
    return rows, is_missed


def show_ceilings(key, figures):
    """A new entry of CEILINGS: a hundredth more of flash, and a frame more of stack."""
    flash, ram, graph, deepest = figures
    flash = -(-flash * 101 // 100 // 64) * 64
    print('    %r: (%d, %d, %s, %d),' % (key, flash, ram, graph and graph + 16, deepest + 16))


def look_at(size, machine, build_dir):
    return (size_rows(size, machine, build_dir),
            ([], False) if is_avr(machine) else instruction_rows(size, machine, build_dir))


def measure(size, build_dir, markdown, with_ceilings):
    """Prints both tables; answers (whether a figure has grown, machines that are missing)."""
    has_failed, missing = False, []
    table = [('-Os', 'program', 'flash', 'RAM', 'stack: call graph', 'stack: painted', '')]
    pace = [('instructions per event', '', 'budget', 'measured', '')]
    for machine in machines(size):
        emulator = 'simavr' if is_avr(machine) else \
            'qemu-system-riscv32' if machine.emulated_as == 'riscv32' else 'qemu-system-arm'
        if not machine.is_installed() or shutil.which(emulator) is None:
            missing.append(machine.name)
    there = [machine for machine in machines(size) if machine.name not in missing]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(lambda machine: look_at(size, machine, build_dir), there))
    for machine, (rows, (instruction_table, is_missed)) in zip(there, results):
        for program, figures in rows.items():
            key = (machine.name, program)
            verdict, is_above = judged(key, figures, CEILINGS.get(key))
            table.append(key + tuple('' if f is None else '%d B' % f for f in figures) + (verdict,))
            has_failed = has_failed or is_above
            if with_ceilings:
                show_ceilings(key, figures)
        pace += instruction_table
        has_failed = has_failed or is_missed
    if len(table) > 1:
        show(table, markdown)
        show(pace, markdown)
    for name in missing:
        print('%s: its compiler or emulator is not installed, skipped' % name)
    return has_failed, missing
