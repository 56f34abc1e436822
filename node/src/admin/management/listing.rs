//! Long lists in pages, filtered by name, as RabbitMQ's pages of queues, exchanges and connections take them.

use axum::Json;
use regex::RegexBuilder;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Refusal;

/// Rows of a page, if nobody says how many, and at most.
const SIZE_DEFAULT: usize = 100;
const SIZE_MAX: usize = 500;
/// Bytes of a compiled expression.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// What is asked of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Paging {
    /// From 1; none: all rows, bare.
    page: Option<usize>,
    page_size: Option<usize>,
    /// Only rows with this in their name.
    name: Option<String>,
    /// The name is an expression; `true` or `false`.
    use_regex: Option<String>,
}

impl Paging {
    /// The page of `rows`; all of them, bare, if no page is asked for.
    pub fn of(&self, rows: Vec<Value>) -> Result<Json<Value>, Refusal> {
        let Some(page) = self.page else { return Ok(Json(Value::Array(rows))) };
        let (total, size) = (rows.len(), self.page_size.unwrap_or(SIZE_DEFAULT).clamp(1, SIZE_MAX));
        let rows = self.filtered(rows)?;
        let (filtered, pages) = (rows.len(), rows.len().div_ceil(size).max(1));
        if !(1..=pages).contains(&page) {
            return Err(Refusal::bad_request(format!("page out of range: there are {pages}")));
        }
        let items: Vec<Value> = rows.into_iter().skip((page - 1) * size).take(size).collect();
        Ok(Json(json!({
            "page": page, "page_size": size, "page_count": pages, "item_count": items.len(),
            "filtered_count": filtered, "total_count": total, "items": items,
        })))
    }

    fn filtered(&self, mut rows: Vec<Value>) -> Result<Vec<Value>, Refusal> {
        let Some(name) = self.name.as_deref().filter(|name| !name.is_empty()) else { return Ok(rows) };
        let pattern = match self.use_regex.as_deref() {
            Some("true") => name.to_owned(),
            _ => regex::escape(name),
        };
        let pattern = RegexBuilder::new(&pattern).case_insensitive(true).size_limit(REGEX_BYTES_MAX).build();
        let pattern = pattern.map_err(|error| Refusal::bad_request(error.to_string()))?;
        rows.retain(|row| row["name"].as_str().is_some_and(|name| pattern.is_match(name)));
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Value> {
        (0..250).map(|number| json!({ "name": format!("q{number:03}") })).collect()
    }

    fn page(paging: &Paging) -> Value {
        paging.of(rows()).unwrap().0
    }

    #[test]
    fn without_a_page_there_are_all_rows() {
        assert_eq!(page(&Paging::default()).as_array().map(Vec::len), Some(250));
    }

    #[test]
    fn pages_are_cut_and_counted() {
        let third = page(&Paging { page: Some(3), ..Paging::default() });
        let counts = ["page_count", "item_count", "filtered_count", "total_count"].map(|name| third[name].as_u64());
        assert_eq!(counts, [Some(3), Some(50), Some(250), Some(250)]);
        assert_eq!(third["items"][0]["name"], "q200");
        let beyond = Paging { page: Some(4), ..Paging::default() };
        assert!(beyond.of(rows()).is_err() && Paging { page: Some(0), ..Paging::default() }.of(rows()).is_err());
    }

    #[test]
    fn names_are_filtered_by_what_is_in_them_or_by_an_expression() {
        let named = |name: &str, regex: &str| Paging {
            page: Some(1),
            name: Some(name.to_owned()),
            use_regex: Some(regex.to_owned()),
            ..Paging::default()
        };
        assert_eq!(page(&named("Q00", "false"))["filtered_count"], 10);
        assert_eq!(page(&named("^q.*7$", "true"))["filtered_count"], 25);
        assert_eq!(page(&named("^q.*7$", "false"))["filtered_count"], 0);
        assert_eq!(page(&named("none", "false"))["items"], json!([]));
        assert!(named("(", "true").of(rows()).is_err());
        assert!(named("\\w{1000000}", "true").of(rows()).is_err(), "compiled, it is too large");
    }
}
