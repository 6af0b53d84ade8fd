//! The one place where errors become gRPC statuses.

use skiff_store::{Code, Error};
use tonic::Status;

/// The gRPC status of an error, with etcd's code and text.
pub fn to_status(error: impl Into<Error>) -> Status {
    let error = error.into();
    Status::new(to_code(error.code()), error.to_string())
}

fn to_code(code: Code) -> tonic::Code {
    tonic::Code::from_i32(code as i32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use skiff_store::{ApiError, NodeError};

    #[test]
    fn every_error_keeps_its_code_and_text() {
        for error in ApiError::ALL {
            let status = to_status(*error);
            assert_eq!(status.code() as i32, error.code() as i32);
            assert_eq!(status.message(), error.text());
        }
        for error in NodeError::ALL {
            let status = to_status(*error);
            assert_eq!(status.code() as i32, error.code() as i32);
            assert_eq!(status.message(), error.text());
        }
    }

    #[test]
    fn damage_is_data_loss() {
        assert_eq!(to_status(Error::Corruption("log".into())).code(), tonic::Code::DataLoss);
        assert_eq!(to_status(Error::Storage("disk".into())).code(), tonic::Code::Unknown);
    }
}
