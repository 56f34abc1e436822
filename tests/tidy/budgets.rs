//! The budgets of STYLE.md: lengths, counts, leftovers, unsafe code.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::tree::{Source, Tree};

const FILE_LINES_MAX: usize = 800;
const FILE_LINES_MEDIAN: usize = 150;
const FUNCTION_LINES_MAX: usize = 70;
const STRUCT_FIELDS_MAX: usize = 15;
const ERROR_VARIANTS_MAX: usize = 10;
/// Words that mean "later", spelled apart so that this file does not hold them.
const LEFTOVERS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];

pub fn files(tree: &Tree) -> Vec<String> {
    let mut violations = Vec::new();
    let mut lengths = Vec::new();
    for source in &tree.sources {
        let lines = source.text.lines().count();
        lengths.push(lines);
        if lines > FILE_LINES_MAX {
            violations.push(format!("{}: {lines} lines, more than {FILE_LINES_MAX}", source.path));
        }
        let opening = source.text.trim_start();
        if !opening.starts_with("//!") && !opening.starts_with("#!") {
            violations.push(format!("{}: does not open with what it is for (//!)", source.path));
        }
    }
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    if median > FILE_LINES_MEDIAN * 2 {
        violations.push(format!("median file length {median}: the wish is {FILE_LINES_MEDIAN}"));
    }
    violations
}

pub fn types(tree: &Tree) -> Vec<String> {
    each(tree, |source, found| Types { source, found }.visit_file(&source.syntax))
}

pub fn functions(tree: &Tree) -> Vec<String> {
    each(tree, |source, found| {
        if !source.is_test() {
            Functions { source, found }.visit_file(&source.syntax);
        }
    })
}

pub fn leftovers(tree: &Tree) -> Vec<String> {
    each(tree, |source, found| {
        for (number, line) in source.text.lines().enumerate() {
            let marks = line.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| LEFTOVERS.contains(word));
            found.extend(marks.map(|word| format!("{}:{}: {word}", source.path, number + 1)));
        }
    })
}

/// `forbid` at the head of every crate; a crate with an exception says `deny`, and each unsafe block carries a SAFETY comment.
pub fn unsafe_code(tree: &Tree) -> Vec<String> {
    each(tree, |source, found| {
        let is_root = ["/src/lib.rs", "/src/main.rs"].iter().any(|root| source.path.ends_with(root));
        let walled = ["#![forbid(unsafe_code)]", "#![deny(unsafe_code)]"].iter().any(|wall| source.text.contains(wall));
        if is_root && !walled {
            found.push(format!("{}: neither forbids nor denies unsafe code", source.path));
        }
        let lines: Vec<&str> = source.text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let block = concat!("unsafe", " {");
            let explained = lines[index.saturating_sub(4)..index].iter().any(|above| above.contains("// SAFETY:"));
            if line.contains(block) && !line.trim_start().starts_with("//") && !explained {
                found.push(format!("{}:{}: unsafe block without a SAFETY comment", source.path, index + 1));
            }
        }
    })
}

fn each(tree: &Tree, check: impl Fn(&Source, &mut Vec<String>)) -> Vec<String> {
    let mut found = Vec::new();
    for source in tree.sources.iter().filter(|source| !source.path.starts_with("tests/tidy/budgets")) {
        check(source, &mut found);
    }
    found
}

struct Types<'a> {
    source: &'a Source,
    found: &'a mut Vec<String>,
}

impl<'ast> Visit<'ast> for Types<'_> {
    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        let fields = item.fields.len();
        if fields > STRUCT_FIELDS_MAX {
            self.found.push(format!("{}: struct {} has {fields} fields", self.source.path, item.ident));
        }
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        let name = item.ident.to_string();
        if name.ends_with("Error") && item.variants.len() > ERROR_VARIANTS_MAX {
            let variants = item.variants.len();
            self.found.push(format!("{}: enum {name} has {variants} variants", self.source.path));
        }
    }
}

struct Functions<'a> {
    source: &'a Source,
    found: &'a mut Vec<String>,
}

impl Functions<'_> {
    fn measure(&mut self, name: &syn::Ident, block: &syn::Block) {
        let lines = block.span().end().line - block.span().start().line;
        if lines > FUNCTION_LINES_MAX {
            self.found.push(format!("{}: fn {name} has {lines} lines", self.source.path));
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.measure(&item.sig.ident, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.measure(&item.sig.ident, &item.block);
        visit::visit_impl_item_fn(self, item);
    }
}
