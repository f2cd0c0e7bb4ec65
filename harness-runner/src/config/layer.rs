//! The settings of one place of a configuration, and the rules that merge several places.
//!
//! A layer holds what the command line, an override or a profile sets. Layers are laid over each
//! other in order of precedence; for each setting the first layer that has it wins, and its
//! [`Origin`] is kept.

use super::error::Place;
use serde_json::Value as Json;
use std::{fmt, sync::Arc};

/// The origin of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The built-in default.
    Default,
    /// A profile, by name.
    Profile(Arc<str>),
    /// An override.
    Override(Arc<OverrideOrigin>),
    /// A rule for scripts.
    Rule(Arc<OverrideOrigin>),
    /// The command line or the environment.
    CommandLine,
}

/// An override, as messages name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverrideOrigin {
    /// The profile that has it.
    pub profile: Arc<str>,
    /// Its index among the profile's overrides, from 0.
    pub index: usize,
    /// Its filterset.
    pub filter: Option<String>,
    /// Its platforms, as they are written.
    pub platform: Option<String>,
    /// Its place.
    pub place: Place,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("built-in default"),
            Self::Profile(name) => write!(f, "profile `{name}`"),
            Self::Override(origin) => origin.fmt(f),
            Self::Rule(origin) => origin.describe("scripts", f),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

impl fmt::Display for OverrideOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe("overrides", f)
    }
}

impl OverrideOrigin {
    /// Writes its place in an array of its profile, and for which tests it is.
    fn describe(&self, array: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{array}[{}]` of profile `{}`", self.index, self.profile)?;
        let conditions = [("filter", &self.filter), ("platform", &self.platform)];
        let conditions: Vec<String> = conditions
            .into_iter()
            .filter_map(|(name, text)| text.as_ref().map(|text| format!("{name} `{text}`")))
            .collect();
        if conditions.is_empty() {
            Ok(())
        } else {
            write!(f, " ({})", conditions.join(", "))
        }
    }
}

/// A setting as `show-config` explains it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// The key in the configuration.
    pub key: &'static str,
    /// The value, as it would be written in the configuration.
    pub value: String,
    /// Its origin.
    pub origin: Origin,
    /// Its place, if a file sets it.
    pub place: Option<Place>,
}

/// The scope of a setting.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In a profile.
    Profile,
    /// In an override.
    Override,
    /// In both.
    Both,
}

impl Scope {
    /// Returns whether a setting of this scope may stand in a table of the other, which is a profile
    /// or an override.
    pub(super) fn covers(self, table: Self) -> bool {
        self == Self::Both || self == table
    }
}

/// A setting as it is declared.
#[derive(Clone, Debug)]
pub struct Declared {
    /// The key in the configuration.
    pub key: &'static str,
    /// The scope of the key.
    pub scope: Scope,
    /// The possible values, in Markdown.
    pub kind: String,
    /// The default, as it would be written in the configuration.
    pub default: String,
    /// The meaning of the setting, in Markdown.
    pub says: &'static str,
    /// The flag of the command line that sets it, if there is one.
    pub flag: Option<&'static str>,
    /// The JSON Schema of what may be written.
    pub schema: Json,
}

/// Defines a layer, the values that layers add up to, and the names of its settings.
///
/// A row has all that is known of a setting: field, type, name, key, scope, kind, default, the flag
/// that sets it, and its line in the page.
macro_rules! layer {
    (
        $(#[$layer_doc:meta])* layer $Layer:ident;
        $(#[$values_doc:meta])* values $Values:ident;
        $(#[$setting_doc:meta])* setting $Setting:ident;
        $(#[$origins_doc:meta])* origins $Origins:ident;
        $(
            $(#[$doc:meta])*
            $field:ident: $type:ty {
                $Name:ident, $key:literal, $scope:ident, $kind:expr, default $default:expr,
                $(flag $flag:literal,)?
                $says:literal
            }
        )+
    ) => {
        $(#[$layer_doc])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $Layer {
            $($(#[$doc])* pub $field: Option<$type>,)+
            /// The places of these settings in a file.
            pub(super) places: Vec<($Setting, Place)>,
        }

        $(#[$values_doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $Values {
            $($(#[$doc])* pub $field: $type,)+
        }

        $(#[$setting_doc])*
        #[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $Setting {
            $($(#[$doc])* $Name,)+
        }

        impl $Setting {
            /// All settings, in the order in which they are explained.
            pub const ALL: &'static [Self] = &[$(Self::$Name),+];

            /// Returns the key in the configuration.
            pub fn key(self) -> &'static str {
                match self {
                    $(Self::$Name => $key,)+
                }
            }

            /// Returns all settings as they are declared, in the order of the page.
            pub fn declared() -> Vec<Declared> {
                vec![$({
                    const KIND: Kind<$type> = $kind;
                    Declared {
                        key: $key,
                        scope: Scope::$scope,
                        kind: (KIND.describe)(),
                        default: (KIND.show)(&$default),
                        says: $says,
                        flag: [$(Some($flag),)? None][0],
                        schema: (KIND.schema)(),
                    }
                },)+]
            }
        }

        $(#[$origins_doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $Origins([(Origin, Option<Place>); $Setting::ALL.len()]);

        impl $Origins {
            /// Returns where a setting comes from.
            pub fn get(&self, setting: $Setting) -> &Origin {
                &self.0[setting as usize].0
            }

            /// Returns where a setting is written, if a file sets it.
            pub fn place(&self, setting: $Setting) -> Option<&Place> {
                self.0[setting as usize].1.as_ref()
            }
        }

        impl $Layer {
            /// Reads what a table sets, which is a profile or an override.
            pub(super) fn read(sections: &mut Sections<'_>, table: Scope) -> Self {
                let mut layer = Self::default();
                $(if Scope::$scope.covers(table)
                    && let Some(value) = sections.get($key)
                {
                    const KIND: Kind<$type> = $kind;
                    layer.places.push(($Setting::$Name, value.place()));
                    layer.$field = (KIND.read)(value).ok();
                })+
                layer
            }

            /// Returns what is set, without where.
            #[allow(dead_code, reason = "one of the two layers has no use for it")]
            pub(super) fn unplaced(&self) -> Self {
                Self { places: Vec::new(), ..self.clone() }
            }

            fn place(&self, setting: $Setting) -> Option<Place> {
                let mut places = self.places.iter();
                places.find(|(placed, _)| *placed == setting).map(|(_, place)| place.clone())
            }
        }

        impl $Values {
            /// Lays layers over each other, the one that wins first.
            pub(super) fn merge<'a>(
                layers: impl IntoIterator<Item = (&'a $Layer, &'a Origin)>,
            ) -> (Self, $Origins) {
                let mut merged = $Layer::default();
                let mut origins =
                    $Origins([const { (Origin::Default, None) }; $Setting::ALL.len()]);
                for (layer, origin) in layers {
                    $(if let (None, Some(value)) = (&merged.$field, &layer.$field) {
                        merged.$field = Some(value.clone());
                        let place = layer.place($Setting::$Name);
                        origins.0[$Setting::$Name as usize] = (origin.clone(), place);
                    })+
                }
                let values = Self { $($field: merged.$field.unwrap_or_else(|| $default),)+ };
                (values, origins)
            }

            /// Returns every setting with its value and its origin.
            pub(super) fn explain(&self, origins: &$Origins) -> Vec<Explained> {
                vec![$({
                    const KIND: Kind<$type> = $kind;
                    Explained {
                        key: $key,
                        value: (KIND.show)(&self.$field),
                        origin: origins.get($Setting::$Name).clone(),
                        place: origins.place($Setting::$Name).cloned(),
                    }
                },)+]
            }
        }
    };
}

pub(super) use layer;
