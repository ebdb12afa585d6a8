#define PLUGIN_REPLY 'A'
#define PLUGIN_VERSION "A"
#include "../EmptyPlugin/plugin.h"
