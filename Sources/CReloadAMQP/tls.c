/*
 * TLS, over librabbitmq's own OpenSSL socket. librabbitmq looks at the broker's certificate only after the handshake,
 * knows neither the system's CAs nor IP addresses in certificates, and reports four numbers. So what is checked is set
 * up in its OpenSSL context here, and OpenSSL's callbacks keep what went wrong.
 */
#include "connection.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int creload_amqp_fail_tls(creload_amqp_connection *connection, const char *operation, creload_amqp_problem problem,
                          const char *format, ...) {
    creload_amqp_fail(connection, CRELOAD_AMQP_ORIGIN_TLS, operation, "");
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(connection->text, sizeof connection->text, format, arguments);
    va_end(arguments);
    connection->error.problem = problem;
    return -1;
}

/* OpenSSL's word for the oldest error of this thread. */
static const char *reason(void) {
    const char *text = ERR_reason_error_string(ERR_peek_error());
    return text ? text : "no reason given";
}

/* ---- what OpenSSL tells */

static creload_amqp_connection *connection_of(const SSL *ssl) { return SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)); }

static int certificate_verified(int is_good, X509_STORE_CTX *store) {
    const SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    creload_amqp_handshake *handshake = &connection_of(ssl)->handshake;
    if (!is_good && handshake->verified == X509_V_OK) handshake->verified = X509_STORE_CTX_get_error(store);
    return is_good;
}

static int certificate_asked(SSL *ssl, X509 **certificate, EVP_PKEY **key) {
    (void)certificate, (void)key;
    connection_of(ssl)->handshake.is_certificate_asked = true;
    return 0;
}

static void state_changed(const SSL *ssl, int where, int value) {
    creload_amqp_handshake *handshake = &connection_of(ssl)->handshake;
    if (where & SSL_CB_HANDSHAKE_START) {
        /* In place of the host's name, which librabbitmq has set; an address is no server name (RFC 6066, 3). */
        SSL_set_tlsext_host_name((SSL *)ssl, handshake->is_address ? NULL : handshake->server_name);
    } else if ((where & SSL_CB_READ_ALERT) == SSL_CB_READ_ALERT && value >> 8 == SSL3_AL_FATAL) {
        handshake->alert = value & 0xff;
    }
}

/* Without this OpenSSL would ask at the terminal, and a service would hang. */
static int no_passphrase(char *buffer, int size, int is_writing, void *data) {
    (void)buffer, (void)size, (void)is_writing, (void)data;
    return -1;
}

/* ---- setting up */

/* 0 when the file can be read. */
static int check_file(creload_amqp_connection *connection, const char *what, const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return creload_amqp_fail_tls(connection, "connect", CRELOAD_AMQP_PROBLEM_FILE, "cannot read the %s %s: %s", what, path,
                                strerror(errno));
    }
    close(fd);
    return 0;
}

static int use_authorities(creload_amqp_connection *connection, SSL_CTX *context, const creload_amqp_tls *tls) {
    if (!tls->ca_file) {
        /* $SSL_CERT_FILE and $SSL_CERT_DIR, else what the distribution built into OpenSSL. */
        if (SSL_CTX_set_default_verify_paths(context) == 1) return 0;
        return creload_amqp_fail_tls(connection, "connect", CRELOAD_AMQP_PROBLEM_FILE, "no CA certificates of the system: %s",
                                reason());
    }
    if (check_file(connection, "CA file", tls->ca_file)) return -1;
    if (SSL_CTX_load_verify_locations(context, tls->ca_file, NULL) == 1) return 0;
    return creload_amqp_fail_tls(connection, "connect", CRELOAD_AMQP_PROBLEM_FILE, "no CA certificate in PEM form in %s: %s",
                            tls->ca_file, reason());
}

static int use_certificate(creload_amqp_connection *connection, SSL_CTX *context, const creload_amqp_tls *tls) {
    if (!tls->certificate_file) return 0;
    const char *key_file = tls->key_file ? tls->key_file : tls->certificate_file;
    if (check_file(connection, "certificate file", tls->certificate_file)) return -1;
    if (check_file(connection, "key file", key_file)) return -1;
    if (SSL_CTX_use_certificate_chain_file(context, tls->certificate_file) != 1) {
        return creload_amqp_fail_tls(connection, "connect", CRELOAD_AMQP_PROBLEM_FILE,
                                     "no usable certificate in PEM form in %s: %s", tls->certificate_file, reason());
    }
    if (SSL_CTX_use_PrivateKey_file(context, key_file, SSL_FILETYPE_PEM) != 1) {
        unsigned long error = ERR_peek_error();
        if (ERR_GET_LIB(error) == ERR_LIB_X509) {
            return creload_amqp_fail_tls(connection, "connect", CRELOAD_AMQP_PROBLEM_KEY,
                                         "the key in %s does not belong to the certificate in %s", key_file,
                                         tls->certificate_file);
        }
        return creload_amqp_fail_tls(connection, "connect", CRELOAD_AMQP_PROBLEM_FILE,
                                     "no key in PEM form, without a passphrase, in %s: %s", key_file, reason());
    }
    connection->handshake.has_certificate = true;
    return 0;
}

amqp_socket_t *creload_amqp_tls_socket(creload_amqp_connection *connection, const char *host,
                                       const creload_amqp_tls *tls) {
    creload_amqp_handshake *handshake = &connection->handshake;
    *handshake = (creload_amqp_handshake){.is_tls = true, .alert = -1, .verified = X509_V_OK};
    const char *name = tls->server_name ? tls->server_name : host;
    snprintf(handshake->server_name, sizeof handshake->server_name, "%s", name);
    unsigned char address[sizeof(struct in6_addr)];
    handshake->is_address = inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1;

    amqp_socket_t *socket = amqp_ssl_socket_new(connection->state);
    if (!socket) {
        creload_amqp_fail_tls(connection, "connect", CRELOAD_AMQP_PROBLEM_OTHER, "OpenSSL cannot be used: %s",
                              reason());
        return NULL;
    }
    SSL_CTX *context = amqp_ssl_socket_get_context(socket);
    ERR_clear_error();
    SSL_CTX_set_app_data(context, connection);
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_default_passwd_cb(context, no_passphrase);
    SSL_CTX_set_client_cert_cb(context, certificate_asked);
    SSL_CTX_set_info_callback(context, state_changed);
    /* librabbitmq's own look at the name does not know addresses; OpenSSL's ends the handshake before anything is sent. */
    amqp_ssl_socket_set_verify_hostname(socket, false);
    amqp_ssl_socket_set_verify_peer(socket, !tls->is_unverified);
    if (use_certificate(connection, context, tls)) return NULL;
    if (tls->is_unverified) return socket;
    if (use_authorities(connection, context, tls)) return NULL;
    X509_VERIFY_PARAM *wanted = SSL_CTX_get0_param(context);
    X509_VERIFY_PARAM_set_hostflags(wanted, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (strlen(name) >= sizeof handshake->server_name ||
        (handshake->is_address ? X509_VERIFY_PARAM_set1_ip_asc(wanted, name)
                               : X509_VERIFY_PARAM_set1_host(wanted, name, 0)) != 1) {
        creload_amqp_fail_tls(connection, "connect", CRELOAD_AMQP_PROBLEM_HOST_NAME,
                              "no certificate can be for this host name");
        return NULL;
    }
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, certificate_verified);
    return socket;
}

/* ---- explaining */

static int explain_certificate(creload_amqp_connection *connection, const char *operation) {
    const creload_amqp_handshake *handshake = &connection->handshake;
    const char *text = X509_verify_cert_error_string(handshake->verified);
    switch (handshake->verified) {
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        return creload_amqp_fail_tls(connection, operation, CRELOAD_AMQP_PROBLEM_HOST_NAME,
                                     "the broker's certificate is not for the %s %s",
                                     handshake->is_address ? "address" : "name", handshake->server_name);
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
    case X509_V_ERR_CRL_HAS_EXPIRED:
        return creload_amqp_fail_tls(connection, operation, CRELOAD_AMQP_PROBLEM_EXPIRED,
                                     "the broker's certificate: %s", text);
    default:
        return creload_amqp_fail_tls(connection, operation, CRELOAD_AMQP_PROBLEM_AUTHORITY,
                                "the broker's certificate is not vouched for by a CA that is trusted here: %s", text);
    }
}

/* The numbers are those of RFC 8446, 6. */
static int explain_alert(creload_amqp_connection *connection, const char *operation) {
    const creload_amqp_handshake *handshake = &connection->handshake;
    const char *text = SSL_alert_desc_string_long(handshake->alert);
    switch (handshake->alert) {
    case SSL3_AD_HANDSHAKE_FAILURE:
        if (!handshake->is_certificate_asked) break;
        /* fallthrough */
    case TLS13_AD_CERTIFICATE_REQUIRED:
        return creload_amqp_fail_tls(connection, operation, CRELOAD_AMQP_PROBLEM_NO_CERTIFICATE,
                                     "the broker wants a client certificate: give certfile and keyfile");
    case TLS1_AD_PROTOCOL_VERSION:
    case TLS1_AD_INSUFFICIENT_SECURITY:
        return creload_amqp_fail_tls(connection, operation, CRELOAD_AMQP_PROBLEM_VERSION,
                                     "the broker takes no TLS version that this side does, 1.2 or newer (%s)", text);
    case SSL3_AD_BAD_CERTIFICATE:
    case SSL3_AD_UNSUPPORTED_CERTIFICATE:
    case SSL3_AD_CERTIFICATE_REVOKED:
    case SSL3_AD_CERTIFICATE_EXPIRED:
    case SSL3_AD_CERTIFICATE_UNKNOWN:
    case TLS1_AD_UNKNOWN_CA:
    case TLS1_AD_ACCESS_DENIED:
        if (handshake->has_certificate) {
            return creload_amqp_fail_tls(connection, operation, CRELOAD_AMQP_PROBLEM_CERTIFICATE_REFUSED,
                                         "the broker does not take this side's certificate (%s)", text);
        }
        break;
    }
    return creload_amqp_fail_tls(connection, operation, CRELOAD_AMQP_PROBLEM_OTHER,
                                 "the broker ended the handshake (%s)", text);
}

int creload_amqp_explain_tls(creload_amqp_connection *connection, const char *operation, int status) {
    const creload_amqp_handshake *handshake = &connection->handshake;
    unsigned long error = ERR_peek_error();
    if (handshake->verified != X509_V_OK) {
        explain_certificate(connection, operation);
    } else if (handshake->alert >= 0) {
        explain_alert(connection, operation);
    } else if (status == AMQP_STATUS_SSL_ERROR && handshake->is_certificate_asked && !handshake->has_certificate) {
        /* With TLS 1.3 this side goes on before the broker has seen that there is none, and may lose its alert. */
        creload_amqp_fail_tls(connection, operation, CRELOAD_AMQP_PROBLEM_NO_CERTIFICATE,
                         "the broker asked for a client certificate and closed the connection: give certfile and keyfile");
    } else if (status != AMQP_STATUS_SSL_CONNECTION_FAILED) {
        return 0;
    } else if (error == 0 || ERR_GET_LIB(error) != ERR_LIB_SSL) {
        creload_amqp_fail_tls(connection, operation, CRELOAD_AMQP_PROBLEM_OTHER,
                              "the connection ended in the TLS handshake");
    } else {
        switch (ERR_GET_REASON(error)) {
        case SSL_R_UNSUPPORTED_PROTOCOL:
        case SSL_R_NO_PROTOCOLS_AVAILABLE:
            creload_amqp_fail_tls(connection, operation, CRELOAD_AMQP_PROBLEM_VERSION,
                                  "the broker's TLS is older than 1.2 (%s)", reason());
            break;
        case SSL_R_WRONG_VERSION_NUMBER:
        case SSL_R_UNKNOWN_PROTOCOL:
        case SSL_R_HTTP_REQUEST:
        case SSL_R_PACKET_LENGTH_TOO_LONG:
            creload_amqp_fail_tls(connection, operation, CRELOAD_AMQP_PROBLEM_NOT_TLS,
                                  "the port does not speak TLS: use amqp://, or the broker's TLS port (%s)", reason());
            break;
        default:
            creload_amqp_fail_tls(connection, operation, CRELOAD_AMQP_PROBLEM_OTHER, "the TLS handshake failed: %s",
                                  reason());
        }
    }
    connection->error.library_code = status;
    connection->alive = false;
    return -1;
}
