// >>ports: callback<>: functions, lambdas, named objects, by hand.
#include "projections.hpp"
#include <doctest/doctest.h>
namespace pj = projections;

namespace {

int twice(int n) { return 2 * n; }
int plus(void* base, int n) { return *static_cast<int*>(base) + n; }
struct adder {
    int sum = 0;
    int operator()(int n) { return sum += n; }
};
using number = pj::callback<int(int)>;

} // namespace

TEST_CASE("callback: empty until it is given something") {
    constexpr number none{};
    static_assert(!none);
}

TEST_CASE("callback: plain functions and lambdas without captures are kept by value") {
    const number function = twice, pointer = &twice, lambda = [](int n) { return n + 1; };
    CHECK(function(4) == 8);
    CHECK(pointer(4) == 8);
    CHECK(lambda(4) == 5);
    constexpr number constant = twice;
    CHECK(static_cast<bool>(constant));
    CHECK(constant(1) == 2);
}

TEST_CASE("callback: of a named object only the address is kept") {
    adder a;
    int base = 10;
    auto capturing = [&base](int n) { return base += n; };
    const number object = a, closure = capturing;
    CHECK(object(3) == 3);
    CHECK(object(4) == 7);
    CHECK(a.sum == 7);
    CHECK(closure(1) == 11);
    CHECK(base == 11);
    const number copy = object;
    CHECK(copy(1) == 8);
}

TEST_CASE("callback: by hand, a function and what it is given back") {
    int base = 100;
    const number hand{plus, &base};
    CHECK(hand(5) == 105);
    base = 1;
    CHECK(hand(5) == 6);
}

TEST_CASE("callback: a null function is none") {
    int (*const null)(int) = nullptr;
    CHECK_FALSE(static_cast<bool>(number{null}));
    CHECK_FALSE(static_cast<bool>(number{nullptr}));
}

TEST_CASE("callback: references are passed on, not copied") {
    adder a;
    const pj::callback<void(adder&, int)> change = [](adder& to, int n) { to.sum = n; };
    change(a, 9);
    CHECK(a.sum == 9);
}

TEST_CASE("callback: a null function by hand is none, whatever object comes with it") {
    int base = 3;
    int (*missing)(void*, int) = nullptr;
    const number none(missing, &base), some(&plus, &base);
    CHECK_FALSE(static_cast<bool>(none));
    CHECK(some(4) == 7);
}

TEST_CASE("callback: what a callable answers is dropped where nothing is wanted") {
    adder a;
    const pj::callback<void(int)> drop = a;
    drop(4);
    CHECK(a.sum == 4);
}
