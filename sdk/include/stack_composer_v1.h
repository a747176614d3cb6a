/* The host functions of Stack Composer plugins, host API 1, for C and freestanding wasm32.
 * A function the plugin may not use can still be imported; calling it traps. Strings are UTF-8.
 * An i64 result is packed: pointer << 32 | length, JSON {"ok": …} or {"err": {"code", "message"}}. */
#ifndef STACK_COMPOSER_V1_H
#define STACK_COMPOSER_V1_H
#include <stdint.h>

#define SC_IMPORT(name) __attribute__((import_module("stack_composer_v1"), import_name(name)))
#define SC_EXPORT(name) __attribute__((export_name(name), visibility("default")))

enum { SC_TRACE, SC_DEBUG, SC_INFO, SC_WARN, SC_ERROR };

SC_IMPORT("host_log") void host_log(int32_t level, const char *text, uint32_t len);
SC_IMPORT("host_retrieval_search") uint64_t host_retrieval_search(const char *query, uint32_t len, uint32_t k);
/* A handle > 0; host_llm_next returns {"ok": {"text"}}, and {"ok": null} at the end. */
SC_IMPORT("host_llm_chat") int64_t host_llm_chat(const char *request, uint32_t len);
SC_IMPORT("host_llm_next") uint64_t host_llm_next(int64_t handle);
SC_IMPORT("host_plan") uint64_t host_plan(const char *domain, uint32_t domain_len, const char *problem, uint32_t problem_len);
/* An empty body is a GET, any other a POST. */
SC_IMPORT("host_fetch") uint64_t host_fetch(const char *url, uint32_t url_len, const char *body, uint32_t body_len);

/* A string result of an exported function, and the two halves of a host function's. */
static inline uint64_t sc_pack(const char *text, uint32_t len) { return (uint64_t)(uintptr_t)text << 32 | len; }
static inline const char *sc_text(uint64_t packed) { return (const char *)(uintptr_t)(packed >> 32); }
static inline uint32_t sc_len(uint64_t packed) { return (uint32_t)packed; }

#endif
