#define PLUGIN_REPLY 'B'
#define PLUGIN_VERSION "B"
#include "../EmptyPlugin/plugin.h"
