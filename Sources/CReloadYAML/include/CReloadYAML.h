/*
 * A YAML text as a small tree, made of libyaml's events in one pass.
 *
 * Not by libyaml's own composer: it loses the difference between `8` and `!!str 8`, and lets an alias name the node that it is
 * in. An alias stays an alias here. What it would be when it is written out is counted all the same: a few lines of aliases to
 * aliases are more than the memory holds, and deeper than the stack.
 */
#ifndef CRELOAD_YAML_H
#define CRELOAD_YAML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__clang__)
#pragma clang assume_nonnull begin
#define CRELOAD_YAML_NULLABLE _Nullable
#else
#define CRELOAD_YAML_NULLABLE
#endif

typedef enum creload_yaml_kind : uint8_t {
    creload_yaml_scalar,
    creload_yaml_sequence,
    creload_yaml_mapping,
    creload_yaml_alias,
} creload_yaml_kind;

/* What a tag says of a scalar. Sequences and mappings have no other than their own. */
typedef enum creload_yaml_tag : uint8_t {
    creload_yaml_tag_none,
    /* `!`, `!!str` */
    creload_yaml_tag_text,
    /* `!!null`, `!!bool`, `!!int`, `!!float`, `!!timestamp`, `!!binary`, `!!merge` */
    creload_yaml_tag_value,
} creload_yaml_tag;

/* Nodes stand in the order of the text: the children of a sequence or mapping behind it, keys and values of a mapping in turn. */
typedef struct creload_yaml_node {
    creload_yaml_kind kind;
    creload_yaml_tag tag;
    /* A scalar without quotes, which may be a number. */
    bool is_plain;
    /* A plain `<<` where a key is. */
    bool is_merge;
    /* Some alias stands for it. */
    bool is_used;
    /* From 1. The column counts characters. */
    uint32_t line, column;
    /* The node behind the last child, of a sequence or mapping. The node that an alias stands for, never an alias. */
    uint32_t end;
    /* Where a scalar's text is in the document's. */
    uint32_t text, length;
} creload_yaml_node;

typedef struct creload_yaml_document {
    /* The first one is the root. */
    creload_yaml_node *nodes;
    size_t count;
    /* What all scalars say, in UTF-8. */
    uint8_t *text;
    size_t text_length;
    /* Why it is not taken, a sentence without anything of the text; then the nodes are not all there. NULL when it is good. */
    const char *CRELOAD_YAML_NULLABLE problem;
    /* The problem is that it is no YAML, in libyaml's words. */
    bool is_syntax;
    /* Where the problem is, from 1; 0 if it is in no line. */
    size_t line, column;
} creload_yaml_document;

/*
 * Reads one document. NULL when there is no memory for it.
 *
 * Not taken are: what is no YAML or no UTF-8, no document or more than one, a key that comes twice or is no scalar, a tag that
 * is not YAML's own, a `<<` without a mapping or a list of mappings, an alias that names nothing before it. Too much are more
 * than 1,000,000 nodes, 128 levels, 1,000 anchors, and aliases that stand for more than 100,000 nodes, those within aliases
 * counted each time.
 */
creload_yaml_document *CRELOAD_YAML_NULLABLE creload_yaml_read(const uint8_t *bytes, size_t count);

/* Frees a document. */
void creload_yaml_free(creload_yaml_document *document);

#if defined(__clang__)
#pragma clang assume_nonnull end
#endif

#endif
