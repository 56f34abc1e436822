//! The repository as the laws see it: every tracked Rust file, read and parsed once.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Names allowed at the top of the repository (DESIGN.md section 10, plus what git and cargo need).
const ROOT: &[&str] = &[
    ".cargo",
    ".ci",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "Makefile",
    "README.md",
    "clippy.toml",
    "deny.toml",
    "deploy",
    "docs",
    "model",
    "node",
    "raft",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "sim",
    "storage",
    "tests",
    "wire",
];

/// One tracked Rust source file.
pub struct Source {
    /// Path from the root of the repository.
    pub path: String,
    pub text: String,
    pub syntax: syn::File,
}

impl Source {
    /// Test code has no line budget for functions and may say what it likes of a type's size.
    pub fn is_test(&self) -> bool {
        self.path.starts_with("tests/") || self.path.contains("/tests/") || self.path.ends_with("/tests.rs")
    }
}

/// The tracked files of the repository.
pub struct Tree {
    pub root: PathBuf,
    pub tracked: Vec<String>,
    pub sources: Vec<Source>,
}

impl Tree {
    pub fn load() -> Self {
        let root = harness::repository();
        let listed = Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard"])
            .current_dir(&root)
            .output()
            .expect("git lists the tracked files");
        let tracked: Vec<String> = String::from_utf8_lossy(&listed.stdout)
            .lines()
            .filter(|path| root.join(path).exists())
            .map(str::to_owned)
            .collect();
        assert!(tracked.iter().any(|path| path == "Cargo.toml"), "not a checkout of the repository: {root:?}");
        let sources = tracked.iter().filter(|path| path.ends_with(".rs")).map(|path| read(&root, path)).collect();
        Self { root, tracked, sources }
    }

    pub fn text(&self, path: &str) -> String {
        std::fs::read_to_string(self.root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}

fn read(root: &Path, path: &str) -> Source {
    let text = std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let syntax = syn::parse_file(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
    Source { path: path.to_owned(), text, syntax }
}

pub fn root_names(tree: &Tree) -> Vec<String> {
    let mut names: Vec<&str> = tree.tracked.iter().filter_map(|path| path.split('/').next()).collect();
    names.dedup();
    names.retain(|name| !ROOT.contains(name));
    names.into_iter().map(|name| format!("{name}: not a name of the root folder (DESIGN.md section 10)")).collect()
}
