//! Trees that grow.

/// Puts `items` one by one into a map or set.
///
/// `collect` would sort them first, by a merge sort that is compiled for each type of item, 6 KiB of the module apiece.
pub(crate) fn grown<C: Default + Extend<T>, T>(items: impl IntoIterator<Item = T>) -> C {
    let mut collection = C::default();
    collection.extend(items);
    collection
}
