/*
 * Looks at a YAML text before Yams makes a tree of it.
 *
 * An alias stands for a copy of what its anchor names: a few lines of aliases to aliases are more than the memory holds, and
 * deeper than the stack, when the tree is hashed, decoded or freed. Yams offers libyaml's events only as the tree that is made
 * of them, and libyaml's header in Swift would bring other system types with it.
 */
#ifndef CRELOAD_YAML_H
#define CRELOAD_YAML_H

#include <stddef.h>
#include <stdint.h>

#if defined(__clang__)
#pragma clang assume_nonnull begin
#define CRELOAD_YAML_NULLABLE _Nullable
#else
#define CRELOAD_YAML_NULLABLE
#endif

/* What is too much in a text: a sentence, with its line, from 1, in `line`. NULL when nothing is; what is no YAML at all is
   left to the decoder. More than 1,000,000 nodes (their ends counted as well), nested deeper than 128 levels, more than 1,000 anchors, aliases that stand for more than 100,000 nodes,
   those within aliases counted each time, and keys that are no scalars are too much. */
const char *CRELOAD_YAML_NULLABLE creload_yaml_excess(const uint8_t *text, size_t count, size_t *line);

#if defined(__clang__)
#pragma clang assume_nonnull end
#endif

#endif
