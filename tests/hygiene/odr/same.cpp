// The same switches as main.cpp: one copy of everything, chosen by the linker.
#include "purse.hpp"

report same_switches() { return {fill_a_purse(), worker_name()}; }
