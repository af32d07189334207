// The hash below partition_of() by itself: SHA-256 and the remainder of 256 bits, as the bodies have them.
#include "projections.hpp"
#if !defined(PROJECTIONS_SEPARATE)      // there they are in another translation unit
#include <doctest/doctest.h>
#include <cstdio>
#include <string>
namespace pj = projections;

TEST_CASE("G19 SHA-256: the examples of FIPS 180-4 and what NIST publishes with it") {
    const auto hex = [](const std::string& of) {
        uint32_t words[8];
        pj::detail::sha256(of, words);
        char out[65];
        for (int i = 0; i < 8; ++i) snprintf(out + 8 * i, 9, "%08x", static_cast<unsigned>(words[i]));
        return std::string(out);
    };
    CHECK(hex("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    CHECK(hex("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK(hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
          "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    CHECK(hex("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqr"
              "lmnopqrsmnopqrstnopqrstu") ==
          "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
    CHECK(hex(std::string(1000000, 'a')) ==
          "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    CHECK(hex("\xbd") == "68325720aabd7c82f30f554b313d0570c95accbb7dc4b5aae11204c08ffe732b");
    CHECK(hex(std::string(55, '\0')) ==
          "02779466cdec163811d078815c633f21901413081449002f24aa3e80f0b88ef7");
    CHECK(hex(std::string(56, '\0')) ==
          "d4817aa5497628e7c77e6b606107042bbba3130888c5f47a375e6179be789fbb");
    CHECK(hex(std::string(64, '\0')) ==
          "f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b");
}

TEST_CASE("G19 the remainder is the same with and without a division of 64 bits") {
    uint32_t random = 1;
    for (int i = 0; i < 3000; ++i) {
        uint32_t words[8];
        for (uint32_t& word : words) {
            random = random * 747796405u + 2891336452u;
            word = i % 7 == 0 ? ~0u : random;
        }
        for (const uint32_t count : {1u, 2u, 3u, 65537u, 0x7FFFFFFFu, 0x80000000u, 0x80000001u,
                                     ~0u - 1, ~0u, random | 1u}) {
            CHECK(pj::detail::modulo<true>(words, count) == pj::detail::modulo<false>(words, count));
        }
    }
}

TEST_CASE("G19 numbers are divided bit by bit as by the processor") {
    for (const uint32_t number : {0u, 1u, 9u, 10u, 99u, 0x7FFFFFFFu, 0x80000000u, ~0u}) {
        for (const uint32_t by : {1u, 2u, 3u, 10u, 0x7FFFFFFFu, 0x80000000u, 0x80000001u, ~0u}) {
            uint32_t word = number;
            CHECK(pj::detail::divide_bit_by_bit(word, by, 0) == number % by);
            CHECK(word == number / by);
        }
    }
}

TEST_CASE("G19 the remainder where it is the largest there is") {
    const uint32_t words[8] = {0, 0, 0, 0, 0, 0, 0, 0xFFFFFFFE};
    CHECK(pj::detail::modulo<false>(words, 0xFFFFFFFF) == 0xFFFFFFFE);
    CHECK(pj::detail::modulo<true>(words, 0xFFFFFFFF) == 0xFFFFFFFE);
}

#endif
