/* Hello: answers a greeting and writes one log line. Every version is built from this file:
 *   -DGREETING="…"   what stands before the name
 *   -DHEALTH=n       what the health function returns; 0 is healthy
 *   -DRUN_TRAPS      run() stops with a trap, as a plugin with a bad bug would                */
#include "stack_composer_v1.h"

#ifndef GREETING
#define GREETING "Hello, "
#endif
#ifndef HEALTH
#define HEALTH 0
#endif

extern unsigned char __heap_base; /* set by the linker: the first byte nobody uses */
static unsigned char *next_free;

/* Nothing is ever freed: the host makes a fresh instance for each call. 0 = out of memory. */
SC_EXPORT("alloc") void *allocate(uint32_t len) {
    const uint64_t page = 65536;
    if (!next_free) next_free = &__heap_base;
    uint64_t end = (uint64_t)(uintptr_t)next_free + len;
    uint64_t have = (uint64_t)__builtin_wasm_memory_size(0) * page;
    if (end > have && __builtin_wasm_memory_grow(0, (end - have + page - 1) / page) == (__SIZE_TYPE__)-1)
        return 0;
    void *start = next_free;
    next_free += len;
    return start;
}

/* Called once by the host before anything else. Nothing to set up. */
SC_EXPORT("_initialize") void initialize(void) {}

SC_EXPORT("health") int32_t health(void) { return HEALTH; }

SC_EXPORT("run") uint64_t run(const char *name, uint32_t len) {
#ifdef RUN_TRAPS
    __builtin_trap();
#endif
    static const char greeting[] = GREETING, event[] = "greeted";
    const uint32_t greeting_len = sizeof greeting - 1;
    char *answer = len > UINT32_MAX - greeting_len ? 0 : allocate(greeting_len + len);
    if (!answer) __builtin_trap();
    __builtin_memcpy(answer, greeting, greeting_len);
    __builtin_memcpy(answer + greeting_len, name, len);
    host_log(SC_INFO, event, sizeof event - 1);
    return sc_pack(answer, greeting_len + len);
}
