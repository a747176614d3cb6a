/* One call as benchmarks.calls makes it, without Python: a fresh store and instance with every
   limit set, 1 KB of text in, its copy out. Prints the median in microseconds. The prototypes
   are those of wasmtime 50's C API, whose headers the wheel does not have. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct { uint64_t store_id; void *item; } func_t;
typedef struct { uint64_t store_id; size_t item; } instance_t;
typedef struct { uint64_t store_id; uint32_t item; uint32_t index; uint64_t rest; } memory_t;
typedef struct { uint8_t kind; union { func_t func; memory_t memory; } of; } extern_t;
typedef union { int32_t i32; int64_t i64; uint8_t bytes[16]; } value_t;

void *wasm_config_new(void);
void *wasm_engine_new_with_config(void *);
void wasmtime_config_consume_fuel_set(void *, _Bool);
void wasmtime_config_epoch_interruption_set(void *, _Bool);
void wasmtime_config_max_wasm_stack_set(void *, size_t);
void *wasmtime_pooling_allocation_config_new(void);
void wasmtime_pooling_allocation_config_total_core_instances_set(void *, uint32_t);
void wasmtime_pooling_allocation_config_total_memories_set(void *, uint32_t);
void wasmtime_pooling_allocation_config_linear_memory_keep_resident_set(void *, size_t);
void wasmtime_pooling_allocation_strategy_set(void *, void *);
void *wasmtime_module_new(void *, const uint8_t *, size_t, void **);
void *wasmtime_linker_new(void *);
void *wasmtime_linker_instantiate_pre(void *, void *, void **);
void *wasmtime_instance_pre_instantiate(void *, void *, instance_t *, void **);
void *wasmtime_store_new(void *, void *, void *);
void *wasmtime_store_context(void *);
void wasmtime_store_delete(void *);
void wasmtime_store_limiter(void *, int64_t, int64_t, int64_t, int64_t, int64_t);
void *wasmtime_context_set_fuel(void *, uint64_t);
void *wasmtime_context_get_fuel(void *, uint64_t *);
void wasmtime_context_set_epoch_deadline(void *, uint64_t);
_Bool wasmtime_instance_export_get(void *, const instance_t *, const char *, size_t, extern_t *);
void *wasmtime_func_call_unchecked(void *, const func_t *, value_t *, size_t, void **);
uint8_t *wasmtime_memory_data(void *, const memory_t *);
size_t wasmtime_memory_data_size(void *, const memory_t *);

enum { LENGTH = 1024 };
static uint8_t module_bytes[1 << 20];
static char text[LENGTH], answer[LENGTH];

static void must(int holds, const char *what) {
  if (!holds) {
    fprintf(stderr, "cannot measure: %s\n", what);
    exit(1);
  }
}

static uint64_t now_ns(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static int compare(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

static void one_call(void *engine, void *pre) {
  void *store = wasmtime_store_new(engine, NULL, NULL), *trap = NULL;
  void *context = wasmtime_store_context(store);
  wasmtime_store_limiter(store, 268435456, 1000000, 1, 8, 1);
  wasmtime_context_set_fuel(context, 10000000);
  wasmtime_context_set_epoch_deadline(context, 1);
  instance_t instance;
  must(!wasmtime_instance_pre_instantiate(pre, context, &instance, &trap) && !trap, "instance");
  extern_t memory, alloc, run;
  must(wasmtime_instance_export_get(context, &instance, "memory", 6, &memory) &&
           wasmtime_instance_export_get(context, &instance, "alloc", 5, &alloc) &&
           wasmtime_instance_export_get(context, &instance, "run", 3, &run),
       "exports");
  value_t slots[2];
  slots[0].i32 = LENGTH;
  must(!wasmtime_func_call_unchecked(context, &alloc.of.func, slots, 1, &trap) && !trap, "alloc");
  uint32_t at = (uint32_t)slots[0].i32;
  must((uint64_t)at + LENGTH <= wasmtime_memory_data_size(context, &memory.of.memory), "bounds");
  memcpy(wasmtime_memory_data(context, &memory.of.memory) + at, text, LENGTH);
  slots[0].i32 = (int32_t)at;
  slots[1].i32 = LENGTH;
  must(!wasmtime_func_call_unchecked(context, &run.of.func, slots, 2, &trap) && !trap, "run");
  uint64_t packed = (uint64_t)slots[0].i64, from = packed >> 32, length = packed & 0xffffffffu;
  must(from + length <= wasmtime_memory_data_size(context, &memory.of.memory), "bounds");
  must(length == LENGTH, "length");
  memcpy(answer, wasmtime_memory_data(context, &memory.of.memory) + from, length);
  uint64_t fuel;
  must(!wasmtime_context_get_fuel(context, &fuel), "fuel");
  must(!memcmp(answer, text, LENGTH), "answer");
  wasmtime_store_delete(store);
}

int main(int count, char **arguments) {
  must(count == 4, "usage: plain_call MODULE CALLS POOLED");
  FILE *file = fopen(arguments[1], "rb");
  must(file != NULL, "no module");
  size_t length = fread(module_bytes, 1, sizeof module_bytes, file);
  size_t calls = (size_t)atol(arguments[2]);
  void *config = wasm_config_new();
  wasmtime_config_consume_fuel_set(config, 1);
  wasmtime_config_epoch_interruption_set(config, 1);
  wasmtime_config_max_wasm_stack_set(config, 512 * 1024);
  if (atoi(arguments[3])) {
    void *pool = wasmtime_pooling_allocation_config_new();
    wasmtime_pooling_allocation_config_total_core_instances_set(pool, 1);
    wasmtime_pooling_allocation_config_total_memories_set(pool, 1);
    wasmtime_pooling_allocation_config_linear_memory_keep_resident_set(pool, 128 << 10);
    wasmtime_pooling_allocation_strategy_set(config, pool);
  }
  void *engine = wasm_engine_new_with_config(config), *module, *pre;
  must(!wasmtime_module_new(engine, module_bytes, length, &module), "module");
  must(!wasmtime_linker_instantiate_pre(wasmtime_linker_new(engine), module, &pre), "link");
  memset(text, 'x', LENGTH);
  uint64_t *taken = calloc(calls, sizeof *taken);
  must(taken != NULL, "memory");
  for (size_t call = 0; call < calls; call++) {
    uint64_t began = now_ns();
    one_call(engine, pre);
    taken[call] = now_ns() - began;
  }
  qsort(taken, calls, sizeof *taken, compare);
  printf("%.3f\n", (double)taken[calls / 2] / 1e3);
  return 0;
}
