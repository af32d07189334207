#!/usr/bin/env python3
"""Compares partition_of() with Python's hashlib on ids of every length and kind.

    test_partition_of.py BINARY     exit 0: all equal; prints how many. SEED=number: other ids.
"""
import hashlib
import os
import random
import subprocess
import sys


def main():
    rng = random.Random(int(os.environ.get('SEED', '1')))
    counts = [1, 2, 3, 5, 7, 8, 12, 16, 31, 64, 100, 255, 256, 257, 1000, 65535, 65536, 65537,
              2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1]
    ids = [b'x' * n for n in range(0, 200)]
    ids += [f'order-{n}'.encode() for n in range(2000)]
    ids += [rng.randbytes(rng.randrange(0, 300)) for _ in range(2000)]
    ids += [''.join(chr(rng.choice([65, 233, 0x416, 0x65E5, 0x1F600])) for _ in range(rng.randrange(1, 60))).encode()
            for _ in range(1000)]
    asked = [(one, rng.choice(counts)) for one in ids for _ in range(3)]
    text = ''.join(f'x{one.hex()} {count}\n' for one, count in asked)
    answers = subprocess.run([sys.argv[1]], input=text, capture_output=True, text=True, check=True).stdout.split()
    assert len(answers) == len(asked), (len(answers), len(asked))
    for (one, count), answer in zip(asked, answers):
        expected = int.from_bytes(hashlib.sha256(one).digest(), 'big') % count
        assert int(answer) == expected, (one, count, answer, expected)
    print(f'{len(asked)} partitions of {len(ids)} ids equal')


main()
