/*
 * The crawler's HTML parser in C, over libxml2. Not a header in its own right: each version of the plugin is one small
 * file that includes this source with other settings.
 *
 *   PARSER_VERSION   the version, a string
 *   PARSER_TRIMS     1: the title's white space is collapsed and the record counts the page's headings
 *   PARSER_FORGETS   1: the title gets lost, which the self test notices
 */
#define _GNU_SOURCE
#include "CReloadPlugin.h"

#include <dlfcn.h>
#include <libxml/HTMLparser.h>
#include <libxml/parserInternals.h>
#include <libxml/uri.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPERATION_PARSE = 1 };

// MARK: Text that grows

struct text {
    char *bytes;
    size_t count, capacity;
    bool failed; // memory ran out; what is here is not whole
};

static void text_append(struct text *text, const void *bytes, size_t count) {
    if (text->failed || count == 0) return;
    if (count > text->capacity - text->count) {
        size_t capacity = (text->count + count) * 2;
        char *grown = realloc(text->bytes, capacity);
        if (!grown) {
            text->failed = true;
            return;
        }
        text->bytes = grown;
        text->capacity = capacity;
    }
    memcpy(text->bytes + text->count, bytes, count);
    text->count += count;
}

static void text_append_string(struct text *text, const char *string) { text_append(text, string, strlen(string)); }

/* The length of the UTF-8 sequence at `bytes`, or 0 when it is none (RFC 3629: no surrogates, nothing overlong). */
static size_t utf8_length(const unsigned char *bytes, size_t count) {
    unsigned char first = bytes[0], low = 0x80, high = 0xBF;
    size_t length;
    if (first < 0x80) return 1;
    if (first >= 0xC2 && first <= 0xDF) length = 2;
    else if (first >= 0xE0 && first <= 0xEF) length = 3;
    else if (first >= 0xF0 && first <= 0xF4) length = 4;
    else return 0;
    if (first == 0xE0) low = 0xA0;
    if (first == 0xED) high = 0x9F;
    if (first == 0xF0) low = 0x90;
    if (first == 0xF4) high = 0x8F;
    if (count < length || bytes[1] < low || bytes[1] > high) return 0;
    for (size_t i = 2; i < length; i++)
        if ((bytes[i] & 0xC0) != 0x80) return 0;
    return length;
}

/* A JSON string; what is not UTF-8 becomes U+FFFD, so the record can always be read. */
static void text_append_json(struct text *text, const char *string, size_t count) {
    static const char hex[] = "0123456789abcdef";
    const unsigned char *bytes = (const unsigned char *)string;
    text_append(text, "\"", 1);
    for (size_t i = 0; i < count;) {
        size_t length = utf8_length(bytes + i, count - i);
        if (bytes[i] == '"' || bytes[i] == '\\') {
            text_append(text, (char[]){'\\', (char)bytes[i]}, 2);
        } else if (bytes[i] < 0x20) {
            text_append(text, (char[]){'\\', 'u', '0', '0', hex[bytes[i] >> 4], hex[bytes[i] & 15]}, 6);
        } else if (length == 0) {
            text_append_string(text, "\xEF\xBF\xBD");
            length = 1;
        } else {
            text_append(text, bytes + i, length);
        }
        i += length;
    }
    text_append(text, "\"", 1);
}

// MARK: The page

struct page {
    struct text title, links; // links: JSON strings with commas between
    xmlChar *base;            // what links are relative to; changed by the first <base>
    bool in_title, has_title, has_base;
    unsigned headings;
};

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f'; }

static const xmlChar *attribute(const xmlChar **attributes, const char *name) {
    for (; attributes && attributes[0]; attributes += 2)
        if (xmlStrEqual(attributes[0], BAD_CAST name)) return attributes[1];
    return NULL;
}

/* The absolute URL of a link, or NULL for what is no URL. What a URL may not contain, such as a space, gets escaped. */
static xmlChar *absolute(const xmlChar *href, const xmlChar *base) {
    while (is_space((char)*href)) href++;
    size_t count = strlen((const char *)href);
    while (count > 0 && is_space((char)href[count - 1])) count--;
    xmlChar *trimmed = xmlStrndup(href, (int)count);
    xmlChar *escaped = trimmed ? xmlURIEscapeStr(trimmed, BAD_CAST "%:/?#@!$&'()*+,;=") : NULL;
    xmlChar *url = escaped ? xmlBuildURI(escaped, base) : NULL;
    xmlFree(trimmed);
    xmlFree(escaped);
    return url;
}

static void start_element(void *context, const xmlChar *name, const xmlChar **attributes) {
    struct page *page = context;
    const xmlChar *href = attribute(attributes, "href");
    if (xmlStrEqual(name, BAD_CAST "title")) {
        page->in_title = !page->has_title;
        page->has_title = true;
    } else if (xmlStrEqual(name, BAD_CAST "base") && href && !page->has_base) {
        xmlChar *base = absolute(href, page->base);
        page->has_base = true;
        if (base) {
            xmlFree(page->base);
            page->base = base;
        }
    } else if (xmlStrEqual(name, BAD_CAST "a") && href) {
        xmlChar *link = absolute(href, page->base);
        if (!link) return;
        if (page->links.count > 0) text_append(&page->links, ",", 1);
        text_append_json(&page->links, (const char *)link, strlen((const char *)link));
        xmlFree(link);
    } else if (name[0] == 'h' && name[1] >= '1' && name[1] <= '6' && name[2] == 0) {
        page->headings++;
    }
}

static void end_element(void *context, const xmlChar *name) {
    struct page *page = context;
    if (xmlStrEqual(name, BAD_CAST "title")) page->in_title = false;
}

static void characters(void *context, const xmlChar *bytes, int count) {
    struct page *page = context;
    if (page->in_title && count > 0 && !PARSER_FORGETS) text_append(&page->title, bytes, (size_t)count);
}

#if PARSER_TRIMS
static void text_collapse_spaces(struct text *text) {
    size_t count = 0;
    for (size_t i = 0; i < text->count; i++) {
        if (!is_space(text->bytes[i])) text->bytes[count++] = text->bytes[i];
        else if (count > 0 && text->bytes[count - 1] != ' ') text->bytes[count++] = ' ';
    }
    if (count > 0 && text->bytes[count - 1] == ' ') count--;
    text->count = count;
}
#endif

static int32_t fail(const reload_sink *sink, const char *reason) {
    sink->write(sink->context, (const uint8_t *)reason, strlen(reason));
    return RELOAD_FAILED;
}

/* Runs libxml2 over `html` without building a tree: its memory does not grow with the page. */
static bool read_html(struct page *page, const uint8_t *html, size_t count) {
    if (count == 0) return true;
    htmlParserCtxtPtr parser = htmlCreateMemoryParserCtxt((const char *)html, (int)count);
    if (!parser) return false;
    htmlCtxtUseOptions(parser, HTML_PARSE_RECOVER | HTML_PARSE_NOERROR | HTML_PARSE_NOWARNING | HTML_PARSE_NONET);
    xmlCharEncodingHandlerPtr utf8 = xmlFindCharEncodingHandler("UTF-8");
    if (utf8) xmlSwitchToEncoding(parser, utf8); // whatever a <meta> says
    *parser->sax = (htmlSAXHandler){
        .startElement = start_element,
        .endElement = end_element,
        .characters = characters,
        .ignorableWhitespace = characters,
    };
    parser->userData = page;
    htmlParseDocument(parser); // its result says how well-formed the page is, which is no matter here
    htmlFreeParserCtxt(parser);
    return true;
}

/* Input: the length of the URL as 4 bytes, little endian, the URL, then the HTML up to the end. */
static int32_t parse(reload_slice in, const reload_sink *out) {
    if (in.count < 4 || !in.bytes) return fail(out, "the input is shorter than its header");
    size_t url_count = in.bytes[0] | in.bytes[1] << 8 | in.bytes[2] << 16 | (size_t)in.bytes[3] << 24;
    if (url_count > in.count - 4) return fail(out, "the URL is longer than the input");
    const char *url = (const char *)in.bytes + 4;
    const uint8_t *html = in.bytes + 4 + url_count;
    size_t html_count = in.count - 4 - url_count;
    if (url_count > 64 * 1024 || html_count > INT_MAX) return fail(out, "the URL or the page is too long");

    struct page page = {.base = xmlStrndup(BAD_CAST url, (int)url_count)};
    struct text record = {0};
    bool whole = page.base && read_html(&page, html, html_count);
#if PARSER_TRIMS
    text_collapse_spaces(&page.title);
#endif
    text_append_string(&record, "{\"url\":");
    text_append_json(&record, url, url_count);
    text_append_string(&record, ",\"title\":");
    text_append_json(&record, page.title.bytes, page.title.count);
    text_append_string(&record, ",\"links\":[");
    text_append(&record, page.links.bytes, page.links.count);
#if PARSER_TRIMS
    char headings[32];
    snprintf(headings, sizeof headings, "],\"headings\":%u", page.headings);
    text_append_string(&record, headings);
#else
    text_append_string(&record, "]");
#endif
    text_append_string(&record, ",\"parser_version\":\"" PARSER_VERSION "\"}");
    whole = whole && !page.title.failed && !page.links.failed && !record.failed;

    int32_t status = whole ? out->write(out->context, (const uint8_t *)record.bytes, record.count)
                           : fail(out, "no memory for the page");
    xmlFree(page.base);
    free(page.title.bytes);
    free(page.links.bytes);
    free(record.bytes);
    return status;
}

// MARK: The plugin

static void prepare_libxml2(void) {
    // libxml2 gives every thread that parses a thread-local value. If it went away together with this plugin, the
    // values of all threads would be lost each time; so it stays, while the plugin itself can be unloaded.
    Dl_info library;
    if (dladdr((void *)xmlInitParser, &library) && library.dli_fname) {
        void *handle = dlopen(library.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
        if (handle) dlclose(handle);
    }
    xmlInitParser();
}

static int32_t create(void **instance, const reload_sink *error) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    static char nothing; // this plugin has no state; its instance is only not NULL
    if (pthread_once(&once, prepare_libxml2) != 0) return fail(error, "libxml2 cannot be started");
    *instance = &nothing;
    return RELOAD_OK;
}

static int32_t call(void *instance, uint32_t operation, reload_slice in, const reload_sink *out) {
    (void)instance;
    if (operation == OPERATION_PARSE) return parse(in, out);
    fail(out, "unknown operation");
    return RELOAD_UNKNOWN_OPERATION;
}

static int32_t append_to_text(void *context, const uint8_t *bytes, size_t count) {
    struct text *text = context;
    text_append(text, bytes, count);
    return text->failed ? RELOAD_FAILED : RELOAD_OK;
}

static int32_t self_test(void *instance, const reload_sink *error) {
    static const char input[] =
        "\x10\0\0\0http://test/a/b/"
        "<!DOCTYPE html><title>Tea &amp;\n Milk</title><h1>Tea</h1><p>See <a href='../c?d=1'>there<p><a href=/e>";
    static const char expected[] =
        "{\"url\":\"http://test/a/b/\","
#if PARSER_TRIMS
        "\"title\":\"Tea & Milk\","
        "\"links\":[\"http://test/a/c?d=1\",\"http://test/e\"],\"headings\":1,"
#else
        "\"title\":\"Tea &\\u000a Milk\","
        "\"links\":[\"http://test/a/c?d=1\",\"http://test/e\"],"
#endif
        "\"parser_version\":\"" PARSER_VERSION "\"}";
    struct text record = {0};
    reload_sink sink = {.context = &record, .write = append_to_text};
    int32_t status =
        call(instance, OPERATION_PARSE, (reload_slice){(const uint8_t *)input, sizeof input - 1}, &sink);
    bool right = status == RELOAD_OK && record.count == sizeof expected - 1
        && memcmp(record.bytes, expected, record.count) == 0;
    if (!right) {
        static const char reason[] = "the record of the test page is wrong: ";
        error->write(error->context, (const uint8_t *)reason, sizeof reason - 1);
        if (record.count > 0) error->write(error->context, (const uint8_t *)record.bytes, record.count);
    }
    free(record.bytes);
    return right ? RELOAD_OK : RELOAD_FAILED;
}

static void destroy(void *instance) { (void)instance; }

static const reload_plugin table = {
    .size = sizeof(reload_plugin),
    .abi_major = RELOAD_ABI_MAJOR,
    .abi_minor = RELOAD_ABI_MINOR,
    .name = "crawler.parser in C",
    .version = PARSER_VERSION,
    .create = create,
    .call = call,
    .self_test = self_test,
    .destroy = destroy,
};

const reload_plugin *reload_plugin_entry(uint32_t host_abi) {
    return host_abi >> 16 == RELOAD_ABI_MAJOR ? &table : NULL;
}
