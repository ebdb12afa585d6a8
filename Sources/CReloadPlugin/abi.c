// The ABI is the header alone. This file pins its layout on 64-bit machines: a change that moves a field does not compile.
#include "CReloadPlugin.h"

#if UINTPTR_MAX == UINT64_MAX
_Static_assert(offsetof(reload_plugin, flags) == 8, "layout");
_Static_assert(offsetof(reload_plugin, state_schema) == 16, "layout");
_Static_assert(offsetof(reload_plugin, name) == 24, "layout");
_Static_assert(offsetof(reload_plugin, version) == 32, "layout");
_Static_assert(offsetof(reload_plugin, create) == 40, "layout");
_Static_assert(offsetof(reload_plugin, destroy) == 80, "layout");
_Static_assert(sizeof(reload_plugin) == 88, "layout");
#endif
