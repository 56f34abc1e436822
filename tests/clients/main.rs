//! Runs the real Kafka clients of `tests/clients/*` against a three-node cluster; a missing language is skipped in words.
