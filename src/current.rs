//! What may be replaced while others use it.

use std::sync::{Arc, PoisonError, RwLock};

/// A value that is replaced as a whole: whoever has it goes on with what it was.
#[derive(Debug, Default)]
pub struct Current<T>(RwLock<Arc<T>>);

impl<T> Current<T> {
    /// Begins with `value`.
    pub fn new(value: T) -> Current<T> {
        Current(RwLock::new(Arc::new(value)))
    }

    /// The value of now.
    pub fn get(&self) -> Arc<T> {
        // It is replaced in a single step, so a poisoned lock still holds a whole one.
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another one from now on.
    pub fn replace(&self, value: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
    }
}
