//! End-to-end tests of cli. Filled as its parts land.
