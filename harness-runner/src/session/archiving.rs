//! Builds, and writes an archive of what was built.

use super::{Notice, Options, Session, SessionError, Start, cpus, query::query};
use crate::{
    archive::{
        Contents, ContentsError, CreateError, Created, Creation, Inputs, Places, UnknownFormat,
    },
    cargo::{Build, Graph, Workspace},
    filter::BinaryFilter,
    protocol::Environment,
    store,
};
use camino::{Utf8Path, Utf8PathBuf};
use guppy::PackageId;
use harness_metadata::TestId;
use nextest_filtering::ParseContext;
use std::{io, sync::mpsc};
use thiserror::Error;

/// An error that kept an archive from being made of a build.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// The form of the archive is not known.
    #[error(transparent)]
    Format(#[from] UnknownFormat),
    /// The recordings of earlier runs could not be read.
    #[error("failed to read the runs in `{folder}`")]
    Recordings {
        /// Their folder.
        folder: Utf8PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Something cannot go into it.
    #[error(transparent)]
    Contents(#[from] ContentsError),
    /// It cannot be written.
    #[error(transparent)]
    Create(#[from] CreateError),
}

/// An archive that was made.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Archived {
    /// The number of test binaries in it.
    pub binaries: usize,
    /// The number of test binaries that the filterset kept out.
    pub filtered: usize,
    /// The file.
    pub created: Created,
}

impl Session {
    /// Finds the files of the workspace that the tests of the plan were seen to use.
    ///
    /// # Errors
    ///
    /// When the recordings of earlier runs cannot be read.
    pub fn inputs(&self) -> Result<Inputs, SessionError> {
        let workspace = &self.workspace;
        let members = workspace.graph.workspace().iter();
        let folders = members.filter_map(|member| member.manifest_path().parent());
        let packages = folders.map(Utf8Path::to_owned).collect();
        let places = Places {
            root: workspace.root(),
            store: &self.store,
            built: [workspace.target_directory(), workspace.build_directory()],
            packages: &packages,
        };
        let tests: Vec<TestId> = (self.plan.tests.iter())
            .map(|test| test.id.clone())
            .collect();
        let inputs = Inputs::find(places, &tests);
        Ok(inputs.map_err(|source| ArchiveError::Recordings {
            folder: store::folder(&self.store),
            source,
        })?)
    }
}

impl Start {
    /// Builds, and archives the binaries that the filtersets of the options select. They are asked about
    /// binaries only.
    ///
    /// # Errors
    ///
    /// When it does not build, or cannot be archived.
    pub fn archive(
        self,
        options: &Options,
        creation: &Creation,
        inputs: Option<&Inputs>,
        notify: &mut dyn FnMut(Notice),
    ) -> Result<Archived, SessionError> {
        // The archive's reader may ask for dependencies.
        let workspace = Workspace::load(&options.cargo, &options.cwd, Graph::Dependencies)?;
        let packages = ParseContext::new(&workspace.graph);
        let filter = BinaryFilter::new(&options.filter.filtersets, &packages)?;
        let inherited = Environment::inherited();
        let build = Build {
            workspace: &workspace,
            options: &options.cargo,
            inherited: &inherited,
        };
        let (ready, _) = mpsc::channel();
        let built = build.run(ready, &mut io::stdout())?;
        let includes = &self.settings.archive_include;
        let contents = Contents::new(
            &workspace,
            &built,
            |binary| {
                let package_id = PackageId::new(binary.package_id.clone());
                filter.selects(&query(binary, &package_id))
            },
            includes,
        );
        let mut contents = contents.map_err(ArchiveError::from)?;
        if let Some(inputs) = inputs {
            contents.add_inputs(inputs).map_err(ArchiveError::from)?;
        }
        for left in &contents.left {
            notify(Notice::LeftOut(left.to_string()));
        }
        let created = creation.run(&contents).map_err(ArchiveError::from)?;
        Ok(Archived {
            binaries: contents.binaries,
            filtered: contents.filtered,
            created,
        })
    }
}

/// Returns how many threads compress.
pub fn compressing_threads() -> u32 {
    u32::try_from(cpus()).unwrap_or(1)
}
