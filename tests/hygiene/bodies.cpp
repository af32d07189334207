// The one file of a program that has the bodies, where PROJECTIONS_SEPARATE is defined for all of it.
#define PROJECTIONS_IMPLEMENTATION
#include "projections.hpp"
