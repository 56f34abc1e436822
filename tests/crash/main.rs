//! End-to-end tests of crash. Filled as its parts land.
