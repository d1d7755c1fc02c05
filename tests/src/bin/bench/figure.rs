//! One figure: how it is printed.

use serde_json::json;

/// Prints a figure as a line of JSON. `compared` says with what, and what the aim is.
pub(crate) fn figure(name: &str, value: f64, unit: &str, compared: &str) {
    let rounded = (value * 1000.0).round() / 1000.0;
    println!("{}", json!({ "name": name, "value": rounded, "unit": unit, "compared": compared }));
}
