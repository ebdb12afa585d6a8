/*
 * SHA-256 and Ed25519 (RFC 8032) by OpenSSL's libcrypto, which librabbitmq brings into every process; written to be
 * called from Swift.
 *
 * OpenSSL cannot be used from Swift as it is: half of its interface is macros, a failure leaves entries in a queue of
 * the thread that the next user of OpenSSL takes for its own, and at exit() it frees what other threads still use.
 *
 * At exit(): OpenSSL registers a cleanup with atexit(), and a thread that hashes, verifies or speaks TLS at that moment
 * crashes the process. A constructor of this library makes the first call to OpenSSL and forbids that cleanup, for the
 * whole process: for amqps as well. It comes too late where another library's constructor has used OpenSSL before.
 *
 * Errors: no function leaves anything in the thread's queue of errors, or takes anything from it that was there before.
 *
 * Threads: all functions may run at the same time, those on one hash one after another. Needs OpenSSL 1.1.1 or newer.
 */
#ifndef CRELOAD_CRYPTO_H
#define CRELOAD_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

/* Bytes. */
#define CRELOAD_CRYPTO_DIGEST_SIZE 32
#define CRELOAD_CRYPTO_KEY_SIZE 32
#define CRELOAD_CRYPTO_SIGNATURE_SIZE 64

/* OpenSSL's name and version; what runs is the system's, not the one this was built with. */
const char *creload_crypto_version(void);
/* Why the last call of this thread that failed did, in OpenSSL's words: its own place for them is cleared. */
const char *creload_crypto_reason(void);

/* A SHA-256 under way. Incomplete, so that OpenSSL's types stay out of Swift. */
typedef struct evp_md_ctx_st creload_crypto_hash;

/* Whether SHA-256 can be had; OpenSSL's configuration may leave it out. What was found once is kept: to look for it
   again would cost more than to hash a short text, and it cannot be lost any more. */
bool creload_crypto_has_sha256(void);
/* Begins one. NULL: there is no SHA-256, or no memory. */
creload_crypto_hash *_Nullable creload_crypto_hash_begin(void);
/* Takes more bytes. False only where OpenSSL has put itself out of service. */
bool creload_crypto_hash_add(creload_crypto_hash *hash, const void *_Nullable bytes, size_t count);
/* Writes the digest, also false then. Nothing can be added after that. */
bool creload_crypto_hash_end(creload_crypto_hash *hash, uint8_t *digest);
/* Ends one, finished or not: OpenSSL allocates it. */
void creload_crypto_hash_free(creload_crypto_hash *_Nullable hash);

typedef enum __attribute__((enum_extensibility(closed))) creload_crypto_verdict {
    CRELOAD_CRYPTO_BAD = 0,
    CRELOAD_CRYPTO_GOOD = 1,
    CRELOAD_CRYPTO_UNKNOWN = 2, /* there is no Ed25519, or no memory */
} creload_crypto_verdict;

/* Whether Ed25519 can be had: verifies a signature of RFC 8032. OpenSSL's configuration, or its FIPS mode, may leave it
   out, and the first request would be too late to find that out. */
bool creload_crypto_has_ed25519(void);
/* The public half of a key, which is kept as its private half alone. */
bool creload_crypto_public_key(const uint8_t *private_key, uint8_t *public_key);
/* Signs. Keys come as their bytes, so that nothing has to be freed; OpenSSL's object of one costs little beside the
   rest. */
bool creload_crypto_sign(const uint8_t *private_key, const uint8_t *message, size_t count, uint8_t *signature);
/* Whether a signature is one of this key for this message. Not a bool: "cannot say" is not "forged". */
creload_crypto_verdict creload_crypto_verify(const uint8_t *public_key, const uint8_t *message, size_t count,
                                             const uint8_t *signature);

#pragma clang assume_nonnull end

#endif
