// The header with nothing before it and nothing after it, and a second time.
#include "projections.hpp"
#include "projections.hpp"
