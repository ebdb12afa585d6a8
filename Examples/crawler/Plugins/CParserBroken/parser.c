#define PARSER_VERSION "2.2.0"
#define PARSER_TRIMS 1
#define PARSER_FORGETS 1
#include "../CParser/parser.h"
