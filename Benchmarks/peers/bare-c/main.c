/* What a plain program over librabbitmq can do: the other side of the benchmarks. One command for each row. */
#include "program.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

static const char usage_text[] =
    "usage: bare-c COMMAND --broker HOST:PORT [--heartbeat S] ...\n"
    "  receive --kind ephemeral|stream --exchange X [--stream Q] [--prefetch N]\n"
    "  discard --queue Q --count N [--prefetch N] [--ack each|multiple]\n"
    "  fanout --exchange X --status-exchange S --connections N --instance-prefix P\n"
    "  read --stream Q --count N [--prefetch N]\n"
    "  idle --exchange X\n";

int stop_fd;
static volatile sig_atomic_t stop_asked;

bool stopping(void) { return stop_asked; }

static void on_stop(int signal) {
    (void)signal;
    int saved = errno;
    stop_asked = 1;
    ssize_t written = write(stop_fd, &(uint64_t){1}, sizeof(uint64_t));
    (void)written; /* it fails only when the counter is full, and then stop_fd is readable */
    errno = saved;
}

int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void write_line(int fd, const char *prefix, const char *format, va_list values) {
    char line[1024];
    int start = snprintf(line, sizeof line, "%s", prefix);
    int length = vsnprintf(line + start, sizeof line - 1 - (size_t)start, format, values) + start;
    if (length > (int)sizeof line - 2) length = sizeof line - 2;
    line[length] = '\n';
    if (write(fd, line, (size_t)length + 1) < 0 && fd == STDOUT_FILENO) _exit(1);
}

void say(const char *format, ...) {
    va_list values;
    va_start(values, format);
    write_line(STDOUT_FILENO, "", format, values);
    va_end(values);
}

void fail(const char *format, ...) {
    va_list values;
    va_start(values, format);
    write_line(STDERR_FILENO, "bare-c: ", format, values);
    va_end(values);
    _exit(1);
}

static _Noreturn void usage(void) {
    fputs(usage_text, stderr);
    exit(2);
}

static int64_t number(const char *text, int64_t least, int64_t most) {
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno || end == text || *end || value < least || value > most) usage();
    return value;
}

static bool either(const char *text, const char *no, const char *yes) {
    if (strcmp(text, yes) != 0 && strcmp(text, no) != 0) usage();
    return strcmp(text, yes) == 0;
}

/* HOST:PORT, cut in two in place. */
static void take_broker(options *options, char *text) {
    char *colon = strrchr(text, ':');
    if (!colon || colon == text) usage();
    *colon = 0;
    options->host = text;
    options->port = (int)number(colon + 1, 1, 65535);
}

enum { BROKER, HEARTBEAT, EXCHANGE, STATUS_EXCHANGE, QUEUE, STREAM, KIND, ACK, PREFETCH, COUNT, CONNECTIONS, PREFIX };

static options parse(int argc, char **argv) {
    static const struct option names[] = {
        {"broker", required_argument, NULL, BROKER},
        {"heartbeat", required_argument, NULL, HEARTBEAT},
        {"exchange", required_argument, NULL, EXCHANGE},
        {"status-exchange", required_argument, NULL, STATUS_EXCHANGE},
        {"queue", required_argument, NULL, QUEUE},
        {"stream", required_argument, NULL, STREAM},
        {"kind", required_argument, NULL, KIND},
        {"ack", required_argument, NULL, ACK},
        {"prefetch", required_argument, NULL, PREFETCH},
        {"count", required_argument, NULL, COUNT},
        {"connections", required_argument, NULL, CONNECTIONS},
        {"instance-prefix", required_argument, NULL, PREFIX},
        {0},
    };
    options options = {.heartbeat = 10, .prefetch = 250};
    for (int option; (option = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        switch (option) {
        case BROKER: take_broker(&options, optarg); break;
        case HEARTBEAT: options.heartbeat = (int)number(optarg, 1, UINT16_MAX); break;
        case EXCHANGE: options.exchange = optarg; break;
        case STATUS_EXCHANGE: options.status_exchange = optarg; break;
        case QUEUE: options.queue = optarg; break;
        case STREAM: options.stream = optarg; break;
        case KIND: options.from_stream = either(optarg, "ephemeral", "stream"); break;
        case ACK: options.ack_multiple = either(optarg, "each", "multiple"); break;
        case PREFETCH: options.prefetch = (uint16_t)number(optarg, 1, UINT16_MAX); break;
        case COUNT: options.count = number(optarg, 1, INT64_MAX); break;
        case CONNECTIONS: options.connections = (int)number(optarg, 1, 100000); break;
        case PREFIX: options.instance_prefix = optarg; break;
        default: usage();
        }
    }
    if (optind != argc || !options.host) usage();
    return options;
}

int main(int argc, char **argv) {
    if (argc < 2) usage();
    const char *command = argv[1];
    options options = parse(argc - 1, argv + 1);
    void (*run)(const struct options *) = NULL;
    if (strcmp(command, "receive") == 0 && options.exchange && (!options.from_stream || options.stream)) {
        run = receive;
    } else if (strcmp(command, "discard") == 0 && options.queue && options.count) {
        run = discard;
    } else if (strcmp(command, "fanout") == 0 && options.exchange && options.status_exchange && options.connections &&
               options.instance_prefix) {
        run = fanout;
    } else if (strcmp(command, "read") == 0 && options.stream && options.count) {
        run = read_stream;
    } else if (strcmp(command, "idle") == 0 && options.exchange) {
        run = idle;
    } else {
        usage();
    }

    stop_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (stop_fd < 0) fail("eventfd: %s", strerror(errno));
    struct sigaction action = {.sa_handler = on_stop, .sa_flags = SA_RESTART};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    run(&options);
    return 0;
}
