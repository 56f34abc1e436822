//! End-to-end tests of cluster. Filled as its parts land.
