#include "CReloadCrypto.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>

/* Before the program's own constructors, whose OpenSSL would register its cleanup. */
__attribute__((constructor(101))) static void forbid_cleanup(void) {
    OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, NULL);
}

const char *creload_crypto_version(void) { return OpenSSL_version(OPENSSL_VERSION); }

/* ---- errors */

/* OpenSSL's texts live as long as the process. */
static _Thread_local const char *last_reason = "nothing has failed";

const char *creload_crypto_reason(void) { return last_reason; }

/* Ends what began with ERR_set_mark(). */
static bool finish(bool is_done) {
    if (!is_done) {
        const char *text = ERR_reason_error_string(ERR_peek_last_error());
        last_reason = text ? text : "no reason given";
    }
    ERR_pop_to_mark();
    return is_done;
}

/* ---- SHA-256 */

static const EVP_MD *sha256(void) {
#if OPENSSL_VERSION_NUMBER < 0x30000000L
    return EVP_sha256();
#else
    static EVP_MD *kept;
    EVP_MD *found = __atomic_load_n(&kept, __ATOMIC_ACQUIRE), *none = NULL;
    if (found || !(found = EVP_MD_fetch(NULL, "SHA256", NULL))) return found;
    if (__atomic_compare_exchange_n(&kept, &none, found, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) return found;
    EVP_MD_free(found);
    return none;
#endif
}

bool creload_crypto_has_sha256(void) {
    ERR_set_mark();
    return finish(sha256());
}

creload_crypto_hash *creload_crypto_hash_begin(void) {
    ERR_set_mark();
    const EVP_MD *algorithm = sha256();
    EVP_MD_CTX *hash = algorithm ? EVP_MD_CTX_new() : NULL;
    if (finish(hash && EVP_DigestInit_ex(hash, algorithm, NULL) == 1)) return hash;
    EVP_MD_CTX_free(hash);
    return NULL;
}

bool creload_crypto_hash_add(creload_crypto_hash *hash, const void *bytes, size_t count) {
    ERR_set_mark();
    return finish(EVP_DigestUpdate(hash, bytes, count) == 1);
}

bool creload_crypto_hash_end(creload_crypto_hash *hash, uint8_t *digest) {
    ERR_set_mark();
    return finish(EVP_DigestFinal_ex(hash, digest, NULL) == 1);
}

void creload_crypto_hash_free(creload_crypto_hash *hash) { EVP_MD_CTX_free(hash); }

/* ---- Ed25519 */

bool creload_crypto_public_key(const uint8_t *private_key, uint8_t *public_key) {
    ERR_set_mark();
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, private_key, CRELOAD_CRYPTO_KEY_SIZE);
    size_t size = CRELOAD_CRYPTO_KEY_SIZE;
    bool is_done = key && EVP_PKEY_get_raw_public_key(key, public_key, &size) == 1;
    EVP_PKEY_free(key);
    return finish(is_done);
}

bool creload_crypto_sign(const uint8_t *private_key, const uint8_t *message, size_t count, uint8_t *signature) {
    ERR_set_mark();
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, private_key, CRELOAD_CRYPTO_KEY_SIZE);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    size_t size = CRELOAD_CRYPTO_SIGNATURE_SIZE;
    bool is_done = key && context && EVP_DigestSignInit(context, NULL, NULL, NULL, key) == 1 &&
                   EVP_DigestSign(context, signature, &size, message, count) == 1;
    EVP_MD_CTX_free(context);
    EVP_PKEY_free(key);
    return finish(is_done);
}

creload_crypto_verdict creload_crypto_verify(const uint8_t *public_key, const uint8_t *message, size_t count,
                                             const uint8_t *signature) {
    ERR_set_mark();
    EVP_PKEY *key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, public_key, CRELOAD_CRYPTO_KEY_SIZE);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    /* 1 for a good signature, 0 for a bad one, less when it could not be looked at. */
    int result = key && context && EVP_DigestVerifyInit(context, NULL, NULL, NULL, key) == 1
                     ? EVP_DigestVerify(context, signature, CRELOAD_CRYPTO_SIGNATURE_SIZE, message, count)
                     : -1;
    EVP_MD_CTX_free(context);
    EVP_PKEY_free(key);
    if (!finish(result >= 0)) return CRELOAD_CRYPTO_UNKNOWN;
    return result == 1 ? CRELOAD_CRYPTO_GOOD : CRELOAD_CRYPTO_BAD;
}

bool creload_crypto_has_ed25519(void) {
    /* RFC 8032, 7.1, TEST 2: the signature of one byte. */
    static const uint8_t key[] = {
        0x3d, 0x40, 0x17, 0xc3, 0xe8, 0x43, 0x89, 0x5a, 0x92, 0xb7, 0x0a, 0xa7, 0x4d, 0x1b, 0x7e, 0xbc,
        0x9c, 0x98, 0x2c, 0xcf, 0x2e, 0xc4, 0x96, 0x8c, 0xc0, 0xcd, 0x55, 0xf1, 0x2a, 0xf4, 0x66, 0x0c,
    };
    static const uint8_t signature[] = {
        0x92, 0xa0, 0x09, 0xa9, 0xf0, 0xd4, 0xca, 0xb8, 0x72, 0x0e, 0x82, 0x0b, 0x5f, 0x64, 0x25, 0x40,
        0xa2, 0xb2, 0x7b, 0x54, 0x16, 0x50, 0x3f, 0x8f, 0xb3, 0x76, 0x22, 0x23, 0xeb, 0xdb, 0x69, 0xda,
        0x08, 0x5a, 0xc1, 0xe4, 0x3e, 0x15, 0x99, 0x6e, 0x45, 0x8f, 0x36, 0x13, 0xd0, 0xf1, 0x1d, 0x8c,
        0x38, 0x7b, 0x2e, 0xae, 0xb4, 0x30, 0x2a, 0xee, 0xb0, 0x0d, 0x29, 0x16, 0x12, 0xbb, 0x0c, 0x00,
    };
    static const uint8_t message = 0x72;
    return creload_crypto_verify(key, &message, 1, signature) == CRELOAD_CRYPTO_GOOD;
}
