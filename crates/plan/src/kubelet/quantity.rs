//! Quantities as this part of the plan uses them: thousandths of a core and bytes.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Wire;

use coracle_api::quantity::Quantity;

/// The value in thousandths, rounded up; `None` when it cannot be read.
pub fn milli(quantity: &Wire) -> Option<i128> {
    quantity.0.parse::<Quantity>().ok().map(|q| q.milli())
}

/// The value in whole units, rounded up; `None` when it cannot be read.
pub fn units(quantity: &Wire) -> Option<i128> {
    quantity.0.parse::<Quantity>().ok().map(|q| q.units())
}
