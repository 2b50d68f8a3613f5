//! What a policy says about some tools.

use crate::pattern::{Pattern, PatternMap, Tie};

/// Something for each tool that a name or pattern fits. Of several the most specific one counts, and it alone.
#[derive(Clone, Debug)]
pub struct ByTool<T> {
    patterns: PatternMap,
    values: Vec<T>,
}

impl<T> Default for ByTool<T> {
    fn default() -> Self {
        Self { patterns: PatternMap::default(), values: Vec::new() }
    }
}

impl<T> ByTool<T> {
    /// Adds something.
    ///
    /// # Errors
    /// When an equally specific pattern fits some of the same names: the one that was added as number `with`, from 0.
    pub fn insert(&mut self, tools: Pattern, value: T) -> Result<(), Tie> {
        self.patterns.insert(tools, self.values.len())?;
        self.values.push(value);
        Ok(())
    }

    /// What there is for a tool.
    pub fn of_tool(&self, name: &str) -> Option<&T> {
        self.values.get(self.patterns.find(name)?.rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_one_counts() {
        let mut map = ByTool::default();
        for (number, tools) in ["read_*", "read_contact", "*"].into_iter().enumerate() {
            map.insert(Pattern::parse(tools).unwrap(), number).unwrap();
        }
        assert_eq!(map.of_tool("read_contact"), Some(&1));
        assert_eq!(map.of_tool("read_contacts"), Some(&0));
        assert_eq!(map.of_tool("write"), Some(&2));
        assert_eq!(map.insert(Pattern::parse("read_*").unwrap(), 3), Err(Tie { with: 0 }));
        assert_eq!(ByTool::<()>::default().of_tool("x"), None);
    }
}
