#!/usr/bin/env python3
"""vectors.py VECTORS.tsv OUT: the partitions of ids as VECTOR(id, size, {...}), for machines without files."""

import sys


def literal(raw):
    """A C string; one \\x per byte that is no letter, and a break after it, since \\x takes all digits."""
    return ''.join(chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else '\\x%02x""' % b for b in raw)


def main():
    with open(sys.argv[1], encoding='utf-8') as rows, open(sys.argv[2], 'w', encoding='ascii') as out:
        for row in rows:
            if row.startswith('#'):
                continue
            name, *partitions = row.rstrip('\n').split('\t')
            raw = name.encode('utf-8')
            out.write('VECTOR("%s", %d, {%s})\n' % (literal(raw), len(raw), ', '.join(p + 'u' for p in partitions)))


if __name__ == '__main__':
    main()
