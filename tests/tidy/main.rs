//! The laws of STYLE.md and DESIGN.md as tests: budgets, the arrows between crates and rooms, the names in the root folder.
//! Reads the tree only. A rule that is not checked here is not a rule.

mod arrows;
mod budgets;
mod tree;

use tree::Tree;

/// Runs `check` over the repository and fails with every violation at once, a line each.
fn law(check: impl Fn(&Tree) -> Vec<String>) {
    let violations = check(&Tree::load());
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

#[test]
fn files_are_short_and_open_with_their_purpose() {
    law(budgets::files);
}

#[test]
fn structs_and_errors_are_small() {
    law(budgets::types);
}

#[test]
fn functions_fit_in_the_head() {
    law(budgets::functions);
}

#[test]
fn nothing_is_left_for_later() {
    law(budgets::leftovers);
}

#[test]
fn unsafe_code_is_walled_in() {
    law(budgets::unsafe_code);
}

#[test]
fn crates_depend_along_the_arrows() {
    law(arrows::crates);
}

#[test]
fn rooms_of_node_import_along_the_arrows() {
    law(arrows::rooms);
}

#[test]
fn owned_dependencies_stay_with_their_owner() {
    law(arrows::owners);
}

#[test]
fn the_simulation_has_no_rocksdb_and_the_product_no_turmoil() {
    law(arrows::linked);
}

#[test]
fn the_root_folder_holds_known_names() {
    law(tree::root_names);
}

#[test]
fn every_dependency_is_explained() {
    law(arrows::explained);
}
