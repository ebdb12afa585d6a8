// A shared library like any other: it loads, but it has no reload_plugin_entry.
const char *not_a_plugin_greeting(void);

const char *not_a_plugin_greeting(void) { return "hello"; }
