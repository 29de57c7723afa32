//! What points are called.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::path::{self, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::BuiltIn;

/// Which points; parsed from, shown as and serialised as the name of a built-in set, such as `two-moons`, or the path of a
/// CSV file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum PointsName {
    /// A set that this program draws itself.
    BuiltIn(BuiltIn),
    /// A CSV file, which may be gzipped.
    File(PathBuf),
}

impl From<String> for PointsName {
    fn from(name: String) -> Self {
        let built_in = BuiltIn::ALL.into_iter().find(|(known, _)| *known == name);
        built_in.map_or_else(|| Self::File(name.into()), |(_, set)| Self::BuiltIn(set))
    }
}

impl FromStr for PointsName {
    type Err = Infallible;

    fn from_str(name: &str) -> Result<Self, Infallible> {
        Ok(name.to_owned().into())
    }
}

impl fmt::Display for PointsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn(set) => f.write_str(set.name()),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

impl From<PointsName> for String {
    fn from(name: PointsName) -> Self {
        name.to_string()
    }
}

impl PointsName {
    /// What they are called where the place of their file does not matter.
    pub fn short_name(&self) -> String {
        match self {
            Self::File(path) => path
                .file_prefix()
                .map_or("points".into(), |name| name.to_string_lossy().into_owned()),
            named => named.to_string(),
        }
    }

    /// These points, from whatever folder they are named.
    ///
    /// # Errors
    ///
    /// When the current folder is not known.
    pub fn absolute(self) -> io::Result<Self> {
        Ok(match self {
            Self::File(path) => Self::File(path::absolute(path)?),
            named => named,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_shown_and_serialised_alike() {
        let built_in = BuiltIn::ALL.map(|(name, set)| (name, PointsName::BuiltIn(set)));
        let file = (
            "some/points.csv",
            PointsName::File("some/points.csv".into()),
        );
        for (name, points) in built_in.into_iter().chain([file]) {
            assert_eq!(name.parse(), Ok(points.clone()));
            assert_eq!(points.to_string(), name);
            let json = serde_json::to_string(&points).unwrap();
            assert_eq!(json, format!("{name:?}"));
            assert_eq!(serde_json::from_str::<PointsName>(&json).unwrap(), points);
        }
        let short = |name: &str| PointsName::from(name.to_owned()).short_name();
        assert_eq!([short("rings"), short("a/b.csv.gz")], ["rings", "b"]);
    }
}
