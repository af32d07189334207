"""What of a worker's flash is there for features that it does not name: a lower bound of what it takes.

A feature's own code is linked only where it is named, but the engine has to ask whether it is. Each group
below answers these questions with "no" in a copy of the header; what the copy lacks then is their price. What
is left after the last group is a worker that can do nothing else.
"""

import os
import re

# What ends the bodies that all engines share: the features' own are left as they are.
SHARED_UNTIL = '// ---- the crash guard'

ROLES = 'begin key batch prepare leave reject adopt part is_ours may_hold committed'.split()


def is_set(port):
    """Both spellings of whether a pointer is set, answered with no."""
    return [(r'(?:\be\.)?\b%s == nullptr' % port, '(true)'), (r'(?:\be\.)?\b%s != nullptr' % port, '(false)')]


GROUPS = [
    ('a unit of work', [
        (r'(bool has_units\(\) const \{ return )what_->transaction.begin.code_ != nullptr', r'\1false'),
        (r'(bool is_in_unit\(\) const \{ return )unit_ >= detail::unit::open', r'\1false')]),
    ('sequences of letters', [
        (r'(bool has_sequences\(\) const \{ return )what_->sequences.places_ != nullptr', r'\1false')]),
    ('a lease', [
        (r'(bool is_fenced\(\) const \{ return )lease_ == detail::leasing::over', r'\1false'),
        (r'(?<=[( ])lease_ == detail::leasing::ours', '(false)')]
     + is_set(r'(?:what_->|p\.)lease')),
    ('a sink, a replay, partitions', [
        (r'(?:\be\.)?\brole_->is_(fed|rebuilding)\b', '(false)')]
     + [pair for name in ROLES for pair in is_set('role_->' + name)]),
    ('guards of gaps and crashes', is_set(r'(?:what_->|p\.)(?:gaps|crashes)') + [(r'\bcareful_ != 0', '(false)')]),
    ('replayed events', [
        (r'(bool is_replaying\(\) const \{ return )record_.replayed_through > at_', r'\1false'),
        (r'\b(?:what_->|p\.)volatile_model', '(false)'), (r'found\.replay_stage != 0', '(false)')]),
    ('bounds of the log', [
        (r'(bool engine::look_at_bounds\(\) \{).*?\n\}', r'\1 return true; }')]),
    ('a filter, an observer, a clock', [
        (r'\b(?:what_->|p\.)filter\b(?!\()', '(false)'),
        (r'\b(?:what_->|p\.)tick_ms_max != 0', '(false)'),
        (r'(void engine::notify\(notice_kind)\b[^)]*\) \{.*?\n\}', r'\1, status, const failure*) {}')]),
]


def copies(header, build_dir):
    """(What is not asked for any more, the folder of such a header), one group more each time."""
    with open(os.path.join(header, 'projections.hpp'), encoding='utf-8') as source:
        shared, mark, rest = source.read().partition(SHARED_UNTIL)
    if not mark:
        raise SystemExit('floor.py: the header has no line ' + SHARED_UNTIL)
    for i, (name, edits) in enumerate(GROUPS):
        found = 0
        for wanted, instead in edits:
            shared, times = re.subn(wanted, instead, shared, flags=re.S)
            found += times
            if times == 0 and 'nullptr' not in wanted:
                raise SystemExit('floor.py: %s: nothing in the header is like %s' % (name, wanted))
        if found == 0:
            raise SystemExit('floor.py: nothing in the header asks for ' + name)
        folder = os.path.join(build_dir, 'floor_%d' % i)
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, 'projections.hpp'), 'w', encoding='utf-8') as out:
            out.write(shared + mark + rest)
        yield name, folder
