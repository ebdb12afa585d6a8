#define PARSER_VERSION "2.0.0"
#define PARSER_TRIMS 0
#define PARSER_FORGETS 0
#include "../CParser/parser.h"
