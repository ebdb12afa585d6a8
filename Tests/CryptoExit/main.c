/*
 * Ends by exit(0) while its threads use OpenSSL, as an agent's do when a service returns from main.
 *
 *     crypto-exit THREADS [cleanup]
 *
 * THREADS has a letter for each thread: h hashes, s signs and verifies, t makes TLS handshakes, over and over. `cleanup`
 * registers what OpenSSL itself would if CReloadCrypto did not forbid it: then most runs end by a signal.
 * Status 1: a thread was given a wrong result; 2: the runs cannot begin.
 */
#include "CReloadCrypto.h"

#include <openssl/crypto.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The thread sanitizer's second at the end of each run, to look for more, has nothing to look at. */
const char *__tsan_default_options(void) { return "atexit_sleep_ms=0"; }

static bool hash(void) {
    static const uint8_t empty[] = {0xe3, 0xb0, 0xc4, 0x42};
    uint8_t digest[CRELOAD_CRYPTO_DIGEST_SIZE];
    creload_crypto_hash *hash = creload_crypto_hash_begin();
    bool is_good = hash && creload_crypto_hash_end(hash, digest) && memcmp(digest, empty, sizeof empty) == 0;
    creload_crypto_hash_free(hash);
    return is_good;
}

static bool sign(void) {
    static const uint8_t key[CRELOAD_CRYPTO_KEY_SIZE] = {1}, message[100];
    uint8_t public_key[CRELOAD_CRYPTO_KEY_SIZE], signature[CRELOAD_CRYPTO_SIGNATURE_SIZE];
    return creload_crypto_public_key(key, public_key) && creload_crypto_sign(key, message, sizeof message, signature) &&
           creload_crypto_verify(public_key, message, sizeof message, signature) == CRELOAD_CRYPTO_GOOD;
}

static SSL_CTX *tls;

/* Both sides in one thread, without a certificate. */
static bool shake_hands(void) {
    BIO *near, *far;
    SSL *client = SSL_new(tls), *server = SSL_new(tls);
    if (!client || !server || !BIO_new_bio_pair(&near, 0, &far, 0)) return false;
    SSL_set_bio(client, near, near);
    SSL_set_bio(server, far, far);
    SSL_set_connect_state(client);
    SSL_set_accept_state(server);
    bool is_good = false;
    for (int flight = 0; flight < 10 && !is_good; flight++) {
        bool is_client_done = SSL_do_handshake(client) == 1;
        is_good = SSL_do_handshake(server) == 1 && is_client_done;
    }
    SSL_free(client);
    SSL_free(server);
    return is_good;
}

static size_t thread_count;
static unsigned phase;
static sem_t told;

/* Says once in each phase that it has worked from beginning to end in it. */
static void *repeat(void *work) {
    for (unsigned last = 0;;) {
        unsigned now = __atomic_load_n(&phase, __ATOMIC_ACQUIRE);
        if (!((bool (*)(void))work)()) _exit(1);
        if (now != last) sem_post(&told);
        last = now;
    }
}

static void let_all_work(void) {
    __atomic_fetch_add(&phase, 1, __ATOMIC_RELEASE);
    for (size_t count = 0; count < thread_count; count++) sem_wait(&told);
}

int main(int count, char **arguments) {
    if (count < 2) return fprintf(stderr, "usage: crypto-exit THREADS [cleanup]\n"), 2;
    /* For a thread that waits for a lock which is gone. */
    alarm(60);
    sem_init(&told, 0, 0);
    /* The service's own handler, which takes its time. OpenSSL's is registered later, so it comes first. */
    atexit(let_all_work);
    tls = SSL_CTX_new(TLS_method());
    if (!tls || !SSL_CTX_set_max_proto_version(tls, TLS1_2_VERSION) ||
        !SSL_CTX_set_cipher_list(tls, "aNULL:@SECLEVEL=0")) return 2;
    for (const char *letter = arguments[1]; *letter; letter++) {
        pthread_t thread;
        void *work = *letter == 'h' ? hash : *letter == 's' ? sign : shake_hands;
        if (pthread_create(&thread, NULL, repeat, work) != 0) return 2;
        thread_count++;
    }
    let_all_work();
    if (count > 2) atexit(OPENSSL_cleanup);
    exit(0);
}
