/* What is collected for the next request or message: its headers or arguments, and its properties. */
#include "connection.h"

#include <string.h>

void creload_amqp_clear_outgoing(creload_amqp_connection *connection) {
    recycle_amqp_pool(&connection->outgoing);
    memset(&connection->properties, 0, sizeof connection->properties);
    connection->properties_size = 0;
    connection->unusable = NULL;
}

static amqp_bytes_t keep(creload_amqp_connection *connection, const char *value, size_t count) {
    amqp_bytes_t copy = amqp_empty_bytes;
    if (count == 0) return copy;
    amqp_pool_alloc_bytes(&connection->outgoing, count, &copy);
    if (copy.bytes) {
        memcpy(copy.bytes, value, count);
    } else {
        connection->unusable = "no memory";
        copy.len = 0;
    }
    return copy;
}

/* The value of a new table entry; NULL when the table takes no more. */
static amqp_field_value_t *add(creload_amqp_connection *connection, const char *name, size_t value_size) {
    amqp_table_t *table = &connection->properties.headers;
    size_t count = strlen(name);
    if (count > 128) {
        connection->unusable = "a header or argument name is longer than 128 bytes";
        return NULL;
    }
    if (table->num_entries == MAX_ENTRIES) {
        connection->unusable = "more than 64 headers or arguments";
        return NULL;
    }
    table->entries = connection->entries;
    amqp_table_entry_t *entry = &table->entries[table->num_entries++];
    *entry = (amqp_table_entry_t){.key = keep(connection, name, count)};
    connection->properties._flags |= AMQP_BASIC_HEADERS_FLAG;
    connection->properties_size += 2 + count + value_size;
    return &entry->value;
}

void creload_amqp_add_string(creload_amqp_connection *connection, const char *name, const char *value, size_t count) {
    amqp_field_value_t *field = add(connection, name, 4 + count);
    if (!field) return;
    field->kind = AMQP_FIELD_KIND_UTF8;
    field->value.bytes = keep(connection, value, count);
}

void creload_amqp_add_integer(creload_amqp_connection *connection, const char *name, int64_t value) {
    amqp_field_value_t *field = add(connection, name, 8);
    if (!field) return;
    field->kind = AMQP_FIELD_KIND_I64;
    field->value.i64 = value;
}

void creload_amqp_add_bool(creload_amqp_connection *connection, const char *name, bool value) {
    amqp_field_value_t *field = add(connection, name, 1);
    if (!field) return;
    field->kind = AMQP_FIELD_KIND_BOOLEAN;
    field->value.boolean = value;
}

void creload_amqp_add_timestamp(creload_amqp_connection *connection, const char *name, uint64_t seconds) {
    amqp_field_value_t *field = add(connection, name, 8);
    if (!field) return;
    field->kind = AMQP_FIELD_KIND_TIMESTAMP;
    field->value.u64 = seconds;
}

void creload_amqp_set_property(creload_amqp_connection *connection, creload_amqp_property property, const char *value,
                               size_t count) {
    amqp_basic_properties_t *properties = &connection->properties;
    /* A short string has one byte for its length; librabbitmq would notice only after the message had begun. */
    if (count > UINT8_MAX) {
        connection->unusable = "a message property is longer than 255 bytes";
        return;
    }
    connection->properties_size += 1 + count;
    amqp_bytes_t copy = keep(connection, value, count);
    switch (property) {
#define SET(NAME, FIELD, FLAG)        \
    case NAME:                        \
        properties->FIELD = copy;     \
        properties->_flags |= (FLAG); \
        break
        SET(CRELOAD_AMQP_CONTENT_TYPE, content_type, AMQP_BASIC_CONTENT_TYPE_FLAG);
        SET(CRELOAD_AMQP_TYPE, type, AMQP_BASIC_TYPE_FLAG);
        SET(CRELOAD_AMQP_MESSAGE_ID, message_id, AMQP_BASIC_MESSAGE_ID_FLAG);
        SET(CRELOAD_AMQP_CORRELATION_ID, correlation_id, AMQP_BASIC_CORRELATION_ID_FLAG);
        SET(CRELOAD_AMQP_REPLY_TO, reply_to, AMQP_BASIC_REPLY_TO_FLAG);
        SET(CRELOAD_AMQP_APP_ID, app_id, AMQP_BASIC_APP_ID_FLAG);
        SET(CRELOAD_AMQP_USER_ID, user_id, AMQP_BASIC_USER_ID_FLAG);
        SET(CRELOAD_AMQP_EXPIRATION, expiration, AMQP_BASIC_EXPIRATION_FLAG);
#undef SET
    }
}

void creload_amqp_set_timestamp(creload_amqp_connection *connection, uint64_t seconds) {
    connection->properties.timestamp = seconds;
    connection->properties._flags |= AMQP_BASIC_TIMESTAMP_FLAG;
}
