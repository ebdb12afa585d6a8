#define PARSER_VERSION "2.1.0"
#define PARSER_TRIMS 1
#define PARSER_FORGETS 0
#include "../CParser/parser.h"
