//! The registry as bytes: RDB, DUMP, replication, and the exporter's snapshots.
