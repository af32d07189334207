// Linked beside use_all.cpp with -Wl,--wrap=malloc,...: any use of the heap ends the program with status 3.
// What libc allocates for itself does not come through here.
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include <new>

[[noreturn]] static void trapped(const char* what) {
    fprintf(stderr, "FAILED: %s was called\n", what);
    _exit(3);
}

extern "C" {
void* __wrap_malloc(size_t);
void* __wrap_calloc(size_t, size_t);
void* __wrap_realloc(void*, size_t);
void __wrap_free(void*);

void* __wrap_malloc(size_t) { trapped("malloc"); }
void* __wrap_calloc(size_t, size_t) { trapped("calloc"); }
void* __wrap_realloc(void*, size_t) { trapped("realloc"); }
void __wrap_free(void*) { trapped("free"); }
}

void* operator new(size_t) { trapped("operator new"); }
void* operator new[](size_t) { trapped("operator new[]"); }
void* operator new(size_t, const std::nothrow_t&) noexcept { trapped("operator new(nothrow)"); }
void* operator new[](size_t, const std::nothrow_t&) noexcept { trapped("operator new[](nothrow)"); }
void operator delete(void*) noexcept { trapped("operator delete"); }
void operator delete[](void*) noexcept { trapped("operator delete[]"); }
void operator delete(void*, size_t) noexcept { trapped("operator delete"); }
void operator delete[](void*, size_t) noexcept { trapped("operator delete[]"); }
