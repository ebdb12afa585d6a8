#include "CReloadYAML.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { MOST_LEVELS = 128, MOST_ANCHORS = 1000, MOST_ALIASED = 100000, MOST_NODES = 1000000 };

/* A node as it would be written out. */
typedef struct extent {
    size_t nodes;
    int levels; /* 0 for a scalar */
} extent;

typedef struct anchor {
    char *name;
    uint32_t node;
    extent extent;
} anchor;

/* A sequence or mapping that has not ended. */
typedef struct level {
    char *anchor;
    uint32_t node;
    size_t children; /* keys and values */
    extent extent;
} level;

typedef struct reading {
    creload_yaml_document *document;
    size_t node_room, text_room;
    level open[MOST_LEVELS];
    int depth;
    anchor anchors[MOST_ANCHORS];
    size_t anchor_count;
    size_t aliased;
    bool has_document;
} reading;

static const char no_memory[] = "there is no memory to read it";

/* Makes room for `count` more, at least twice what there was. */
static bool grow(void **memory, size_t *room, size_t used, size_t count, size_t size) {
    if (count <= *room - used) return true;
    size_t wanted = used + count > *room * 2 ? used + count : *room * 2;
    void *larger = realloc(*memory, wanted * size);
    if (!larger) return false;
    *memory = larger;
    *room = wanted;
    return true;
}

static creload_yaml_node *add_node(reading *state, creload_yaml_kind kind, const yaml_event_t *event) {
    creload_yaml_document *document = state->document;
    if (!grow((void **)&document->nodes, &state->node_room, document->count, 1, sizeof *document->nodes)) return NULL;
    creload_yaml_node *node = &document->nodes[document->count++];
    *node = (creload_yaml_node){
        .kind = kind,
        .line = (uint32_t)event->start_mark.line + 1,
        .column = (uint32_t)event->start_mark.column + 1,
    };
    return node;
}

/* A later anchor of the same name counts from there on. */
static const anchor *find(const reading *state, const char *name) {
    for (size_t index = state->anchor_count; index > 0; index--) {
        if (strcmp(state->anchors[index - 1].name, name) == 0) return &state->anchors[index - 1];
    }
    return NULL;
}

/* Notes the node's name when the node has ended, so that no alias can be part of what it stands for. Takes over `name`. */
static const char *name_node(reading *state, char *name, uint32_t node, extent extent) {
    if (!name) return NULL;
    if (state->anchor_count == MOST_ANCHORS) {
        free(name);
        return "it has more than 1,000 anchors";
    }
    state->anchors[state->anchor_count++] = (anchor){name, node, extent};
    return NULL;
}

/* Sets the place of a problem to a node's. */
static const char *at(creload_yaml_document *document, uint32_t node, const char *problem) {
    document->line = document->nodes[node].line;
    document->column = document->nodes[node].column;
    return problem;
}

/* A node has ended: it counts for the one it is in. */
static const char *end_node(reading *state, uint32_t index, extent extent) {
    if (state->depth == 0) return NULL;
    level *parent = &state->open[state->depth - 1];
    creload_yaml_node *node = &state->document->nodes[index];
    if (state->document->nodes[parent->node].kind == creload_yaml_mapping && parent->children % 2 == 0) {
        if (extent.levels > 0) return at(state->document, index, "a key is a sequence or a mapping");
        node->is_merge = node->kind == creload_yaml_scalar && node->is_plain && node->length == 2 &&
                         memcmp(state->document->text + node->text, "<<", 2) == 0;
    }
    parent->children++;
    parent->extent.nodes += extent.nodes;
    if (parent->extent.levels <= extent.levels) parent->extent.levels = extent.levels + 1;
    return NULL;
}

/* NULL when there is no memory for it. */
static char *copy(const yaml_char_t *name) { return strdup((const char *)name); }

static const char *begin(reading *state, creload_yaml_kind kind, const yaml_event_t *event, const yaml_char_t *name) {
    if (state->depth == MOST_LEVELS) return "it nests deeper than 128 levels";
    creload_yaml_node *node = add_node(state, kind, event);
    char *anchor = node && name ? copy(name) : NULL;
    if (!node || (name && !anchor)) return no_memory;
    state->open[state->depth++] =
        (level){.anchor = anchor, .node = (uint32_t)(node - state->document->nodes), .extent = {1, 1}};
    return NULL;
}

static bool is_collection(const creload_yaml_node *node) {
    return node->kind == creload_yaml_sequence || node->kind == creload_yaml_mapping;
}

/* The node behind this one and all that is in it. */
static uint32_t next(const creload_yaml_document *document, uint32_t node) {
    return is_collection(&document->nodes[node]) ? document->nodes[node].end : node + 1;
}

static const creload_yaml_node *meant(const creload_yaml_document *document, uint32_t node) {
    const creload_yaml_node *it = &document->nodes[node];
    return it->kind == creload_yaml_alias ? &document->nodes[it->end] : it;
}

static bool can_be_merged(const creload_yaml_document *document, uint32_t value) {
    const creload_yaml_node *node = meant(document, value);
    if (node->kind != creload_yaml_sequence) return node->kind == creload_yaml_mapping;
    for (uint32_t item = (uint32_t)(node - document->nodes) + 1; item < node->end; item = next(document, item)) {
        if (meant(document, item)->kind != creload_yaml_mapping) return false;
    }
    return true;
}

typedef struct key {
    const uint8_t *text;
    uint32_t length, node;
} key;

static int compare_texts(const key *one, const key *other) {
    if (one->length != other->length) return one->length < other->length ? -1 : 1;
    return one->length > 0 ? memcmp(one->text, other->text, one->length) : 0;
}

static int compare_keys(const void *one, const void *other) {
    int order = compare_texts(one, other);
    return order ? order : ((const key *)one)->node < ((const key *)other)->node ? -1 : 1;
}

/* Looks at the keys of a mapping that has ended. */
static const char *check_mapping(creload_yaml_document *document, uint32_t mapping, size_t count) {
    if (count == 0) return NULL;
    key *keys = malloc(count * sizeof *keys);
    if (!keys) return no_memory;
    const char *problem = NULL;
    size_t index = 0;
    uint32_t node = mapping + 1;
    while (node < document->nodes[mapping].end && !problem) {
        const creload_yaml_node *text = meant(document, node);
        keys[index++] = (key){document->text + text->text, text->length, node};
        uint32_t value = next(document, node);
        if (document->nodes[node].is_merge && !can_be_merged(document, value)) {
            problem = at(document, node, "<< takes a mapping or a list of mappings");
        }
        node = next(document, value);
    }
    if (!problem) {
        qsort(keys, count, sizeof *keys, compare_keys);
        for (index = 1; index < count && !problem; index++) {
            if (compare_texts(&keys[index - 1], &keys[index]) == 0) {
                problem = at(document, keys[index].node, "this key comes twice");
            }
        }
    }
    free(keys);
    return problem;
}

static const char *end(reading *state) {
    level ended = state->open[--state->depth];
    creload_yaml_document *document = state->document;
    document->nodes[ended.node].end = (uint32_t)document->count;
    const char *problem = NULL;
    if (document->nodes[ended.node].kind == creload_yaml_mapping) {
        problem = check_mapping(document, ended.node, ended.children / 2);
    }
    if (problem) {
        free(ended.anchor);
    } else {
        problem = name_node(state, ended.anchor, ended.node, ended.extent);
    }
    return problem ? problem : end_node(state, ended.node, ended.extent);
}

static const char yaml_prefix[] = "tag:yaml.org,2002:";

static bool is_tag(const yaml_char_t *tag, const char *name) {
    return strncmp((const char *)tag, yaml_prefix, sizeof yaml_prefix - 1) == 0 &&
           strcmp((const char *)tag + sizeof yaml_prefix - 1, name) == 0;
}

static const char unknown_tag[] = "an unknown tag";

static bool is_own_tag(const yaml_char_t *tag, const char *name) {
    return !tag || strcmp((const char *)tag, "!") == 0 || is_tag(tag, name);
}

static const char *tag_scalar(creload_yaml_node *node, const yaml_char_t *tag) {
    static const char *const values[] = {"null", "bool", "int", "float", "timestamp", "binary", "merge"};
    if (!tag) return NULL;
    node->tag = creload_yaml_tag_text;
    if (is_own_tag(tag, "str")) return NULL;
    node->tag = creload_yaml_tag_value;
    for (size_t index = 0; index < sizeof values / sizeof *values; index++) {
        if (is_tag(tag, values[index])) return NULL;
    }
    return unknown_tag;
}

static const char *take_scalar(reading *state, const yaml_event_t *event) {
    creload_yaml_document *document = state->document;
    size_t length = event->data.scalar.length;
    creload_yaml_node *node = add_node(state, creload_yaml_scalar, event);
    if (!node || !grow((void **)&document->text, &state->text_room, document->text_length, length, 1)) return no_memory;
    node->is_plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    node->text = (uint32_t)document->text_length;
    node->length = (uint32_t)length;
    if (length > 0) memcpy(document->text + document->text_length, event->data.scalar.value, length);
    document->text_length += length;
    uint32_t index = (uint32_t)(node - document->nodes);
    const char *problem = tag_scalar(node, event->data.scalar.tag);
    if (!problem && event->data.scalar.anchor) {
        char *name = copy(event->data.scalar.anchor);
        problem = name ? name_node(state, name, index, (extent){1, 0}) : no_memory;
    }
    return problem ? problem : end_node(state, index, (extent){1, 0});
}

static const char *take_alias(reading *state, const yaml_event_t *event) {
    const anchor *known = find(state, (const char *)event->data.alias.anchor);
    if (!known) return "an alias that names nothing before it";
    if (known->extent.nodes > MOST_ALIASED - state->aliased) return "its aliases stand for more than 100,000 nodes";
    state->aliased += known->extent.nodes;
    if (state->depth + known->extent.levels > MOST_LEVELS) return "it nests deeper than 128 levels";
    creload_yaml_node *node = add_node(state, creload_yaml_alias, event);
    if (!node) return no_memory;
    node->end = known->node;
    state->document->nodes[known->node].is_used = true;
    return end_node(state, (uint32_t)(node - state->document->nodes), known->extent);
}

static const char *take(reading *state, const yaml_event_t *event) {
    if (state->document->count == MOST_NODES) return "it has more than 1,000,000 nodes";
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (state->has_document) return "it has more than one document";
        state->has_document = true;
        return NULL;
    case YAML_SEQUENCE_START_EVENT:
        if (!is_own_tag(event->data.sequence_start.tag, "seq")) return unknown_tag;
        return begin(state, creload_yaml_sequence, event, event->data.sequence_start.anchor);
    case YAML_MAPPING_START_EVENT:
        if (!is_own_tag(event->data.mapping_start.tag, "map")) return unknown_tag;
        return begin(state, creload_yaml_mapping, event, event->data.mapping_start.anchor);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        return end(state);
    case YAML_SCALAR_EVENT:
        return take_scalar(state, event);
    case YAML_ALIAS_EVENT:
        return take_alias(state, event);
    default:
        return NULL;
    }
}

/* What libyaml says of a text that is no YAML; its words are constants without anything of the text. */
static const char *failure(const yaml_parser_t *parser, const uint8_t *bytes, size_t count,
                           creload_yaml_document *document) {
    if (parser->error == YAML_MEMORY_ERROR) return no_memory;
    document->line = parser->problem_mark.line + 1;
    document->column = parser->problem_mark.column + 1;
    document->is_syntax = true;
    if (parser->error != YAML_READER_ERROR) return parser->problem;
    /* libyaml reads ahead of its marks. */
    document->line = 1;
    document->column = 0;
    for (size_t index = 0; index < parser->problem_offset && index < count; index++) document->line += bytes[index] == '\n';
    document->is_syntax = !strstr(parser->problem, "UTF-8") && !strstr(parser->problem, "Unicode");
    return document->is_syntax ? parser->problem : "it is not UTF-8";
}

static void read_events(reading *state, yaml_parser_t *parser, const uint8_t *bytes, size_t count) {
    creload_yaml_document *document = state->document;
    bool has_ended = false;
    static const uint8_t mark[] = {0xef, 0xbb, 0xbf};
    size_t start = count >= sizeof mark && memcmp(bytes, mark, sizeof mark) == 0 ? sizeof mark : 0;
    /* Otherwise another mark at the beginning would choose UTF-16. */
    yaml_parser_set_encoding(parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(parser, bytes + start, count - start);
    while (!document->problem && !has_ended) {
        yaml_event_t event;
        if (!yaml_parser_parse(parser, &event)) {
            document->problem = failure(parser, bytes, count, document);
            break;
        }
        document->line = 0;
        document->problem = take(state, &event);
        if (document->problem && document->line == 0) {
            document->line = event.start_mark.line + 1;
            document->column = event.start_mark.column + 1;
        }
        has_ended = event.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
    }
    if (document->problem) return;
    const creload_yaml_node *root = document->count > 0 ? &document->nodes[0] : NULL;
    document->line = 0;
    if (!root || (root->kind == creload_yaml_scalar && root->is_plain && root->length == 0)) {
        document->problem = "it is empty";
    }
}

creload_yaml_document *creload_yaml_read(const uint8_t *bytes, size_t count) {
    creload_yaml_document *document = calloc(1, sizeof *document);
    reading *state = calloc(1, sizeof *state);
    yaml_parser_t parser;
    if (!document || !state || !yaml_parser_initialize(&parser)) {
        free(state);
        free(document);
        return NULL;
    }
    state->document = document;
    if (count <= UINT32_MAX) {
        read_events(state, &parser, bytes, count);
    } else {
        document->problem = "it has more than 4,294,967,295 bytes";
    }
    while (state->depth > 0) free(state->open[--state->depth].anchor);
    while (state->anchor_count > 0) free(state->anchors[--state->anchor_count].name);
    free(state);
    yaml_parser_delete(&parser);
    return document;
}

void creload_yaml_free(creload_yaml_document *document) {
    free(document->nodes);
    free(document->text);
    free(document);
}
