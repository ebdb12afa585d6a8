#include "CReloadYAML.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { MOST_LEVELS = 128, MOST_ANCHORS = 1000, MOST_ALIASED = 100000, MOST_NODES = 1000000 };

/* A node as it is written out. */
typedef struct extent {
    size_t nodes;
    int levels; /* 0 for a scalar */
} extent;

typedef struct anchor {
    char *name;
    extent extent;
} anchor;

/* A sequence or mapping that has not ended. */
typedef struct level {
    char *anchor;
    bool is_mapping;
    size_t children; /* keys and values */
    extent extent;
} level;

typedef struct walk {
    level open[MOST_LEVELS];
    int depth;
    anchor anchors[MOST_ANCHORS];
    size_t anchor_count;
    size_t aliased;
    size_t nodes; /* of the text itself */
} walk;

/* A later anchor of the same name counts from there on. */
static const anchor *find(const walk *walk, const char *name) {
    for (size_t index = walk->anchor_count; index > 0; index--) {
        if (strcmp(walk->anchors[index - 1].name, name) == 0) return &walk->anchors[index - 1];
    }
    return NULL;
}

/* Takes over `name`. */
static const char *name_node(walk *walk, char *name, extent extent) {
    if (!name) return NULL;
    if (walk->anchor_count == MOST_ANCHORS) {
        free(name);
        return "it has more than 1,000 anchors";
    }
    walk->anchors[walk->anchor_count++] = (anchor){name, extent};
    return NULL;
}

static const char *add_node(walk *walk, extent extent) {
    if (walk->depth == 0) return NULL;
    level *parent = &walk->open[walk->depth - 1];
    if (parent->is_mapping && parent->children % 2 == 0 && extent.levels > 0) return "a key is a sequence or a mapping";
    parent->children++;
    parent->extent.nodes += extent.nodes;
    if (parent->extent.levels <= extent.levels) parent->extent.levels = extent.levels + 1;
    return NULL;
}

static char *copy(const yaml_char_t *name) { return name ? strdup((const char *)name) : NULL; }

static const char *begin(walk *walk, bool is_mapping, const yaml_char_t *name) {
    if (walk->depth == MOST_LEVELS) return "it nests deeper than 128 levels";
    walk->open[walk->depth++] = (level){.anchor = copy(name), .is_mapping = is_mapping, .extent = {1, 1}};
    return NULL;
}

static const char *take(walk *walk, const yaml_event_t *event) {
    if (++walk->nodes > MOST_NODES) return "it has more than 1,000,000 nodes";
    switch (event->type) {
    case YAML_SEQUENCE_START_EVENT:
        return begin(walk, false, event->data.sequence_start.anchor);
    case YAML_MAPPING_START_EVENT:
        return begin(walk, true, event->data.mapping_start.anchor);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT: {
        if (walk->depth == 0) return NULL;
        level ended = walk->open[--walk->depth];
        const char *excess = name_node(walk, ended.anchor, ended.extent);
        return excess ? excess : add_node(walk, ended.extent);
    }
    case YAML_SCALAR_EVENT: {
        const char *excess = name_node(walk, copy(event->data.scalar.anchor), (extent){1, 0});
        return excess ? excess : add_node(walk, (extent){1, 0});
    }
    case YAML_ALIAS_EVENT: {
        const anchor *known = find(walk, (const char *)event->data.alias.anchor);
        if (!known) return NULL; /* Yams ends here */
        if (known->extent.nodes > MOST_ALIASED - walk->aliased) return "its aliases stand for more than 100,000 nodes";
        walk->aliased += known->extent.nodes;
        if (walk->depth + known->extent.levels > MOST_LEVELS) return "it nests deeper than 128 levels";
        return add_node(walk, known->extent);
    }
    default:
        return NULL;
    }
}

const char *creload_yaml_excess(const uint8_t *text, size_t count, size_t *line) {
    yaml_parser_t parser;
    const char *excess = NULL;
    bool ended = false;
    walk *state = calloc(1, sizeof *state);
    if (!state) return "there is no memory to look at it";
    if (!yaml_parser_initialize(&parser)) {
        free(state);
        return "there is no memory to look at it";
    }
    yaml_parser_set_input_string(&parser, text, count);
    while (!excess && !ended) {
        yaml_event_t event;
        if (!yaml_parser_parse(&parser, &event)) break;
        excess = take(state, &event);
        ended = event.type == YAML_STREAM_END_EVENT;
        *line = event.start_mark.line + 1;
        yaml_event_delete(&event);
    }
    while (state->depth > 0) free(state->open[--state->depth].anchor);
    while (state->anchor_count > 0) free(state->anchors[--state->anchor_count].name);
    free(state);
    yaml_parser_delete(&parser);
    return excess;
}
