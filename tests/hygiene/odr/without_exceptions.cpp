// Compiled without exceptions, linked into a program with them.
#include "purse.hpp"

report without_exceptions() { return {fill_a_purse(), worker_name()}; }
