"""Every error that nbllm raises.

::

    NbllmError
    ├── AnswerFormError             an answer does not have the requested form; carries the text
    ├── BatchError                  a batch ended early; what is finished is in its journal
    ├── ConfigError                 a model config cannot be read; names file, entry and key
    ├── ConversationError           a conversation does not exist, or its file cannot be used
    ├── DownloadError               a model could not be downloaded; what arrived is kept
    ├── InvalidOptionError          a generation or load option has an invalid value
    ├── MissingDependencyError      an optional package is missing; names the pip install line
    ├── ModelNotFoundError          no model has this name; suggests the closest ones
    ├── ModelLoadError              a model was found but could not be loaded
    │   ├── ModelFileError          its file is missing, damaged, truncated or not a GGUF
    │   ├── LoadedOtherwiseError    it is already loaded, with other options
    │   └── DoesNotFitError         memory is too small; carries the bytes and what would fit
    ├── QuantizationError           a model's file could not be quantized or measured
    └── ModelError                  a loaded model failed; carries the partial text
        ├── ModelClosedError        the model was unloaded
        ├── BudgetError             a budget does not allow the request; nothing was sent
        ├── UnsupportedError        this model or vendor does not support it; says what does
        ├── RouterError             no member of a router can answer; carries each one's reason
        ├── ContextLengthError      the prompt does not fit; carries the counts
        ├── EngineError             the local engine refused a request or failed on it
        │   ├── EngineBusyError     too many requests are already waiting for this model
        │   ├── EngineStalledError  the worker process stopped responding and was terminated
        │   └── EngineCrashedError  the worker process died; carries its last log lines
        └── ApiError                a vendor or server failed; see the classes below it
            ├── AuthenticationError
            ├── PermissionDeniedError
            ├── NotFoundError
            ├── BadRequestError
            │   └── ContentPolicyError  the vendor's content filter refused the prompt
            ├── RateLimitError      carries the delay that the server requested
            ├── QuotaError          credit or a spending limit is used up; never retried
            ├── OverloadedError
            ├── ServerError
            ├── ApiTimeoutError
            ├── ApiConnectionError
            ├── ProtocolError       the response does not follow the vendor's protocol
            └── InterruptedStreamError  the stream broke before its end marker

Each message says what happened, to which model, and what to do next.
"""

from nbllm.core.errors.general_errors import (
    AnswerFormError,
    BatchError,
    ConfigError,
    ConversationError,
    InvalidOptionError,
    MissingDependencyError,
    NbllmError,
)
from nbllm.core.errors.load_errors import (
    DoesNotFitError,
    DownloadError,
    LoadedOtherwiseError,
    ModelFileError,
    ModelLoadError,
    ModelNotFoundError,
    QuantizationError,
)
from nbllm.core.errors.model_errors import (
    ApiConnectionError,
    ApiError,
    ApiTimeoutError,
    AuthenticationError,
    BadRequestError,
    BudgetError,
    ContentPolicyError,
    ContextLengthError,
    EngineBusyError,
    EngineCrashedError,
    EngineError,
    EngineStalledError,
    InterruptedStreamError,
    ModelClosedError,
    ModelError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProtocolError,
    QuotaError,
    RateLimitError,
    RouterError,
    ServerError,
    UnsupportedError,
)

__all__ = [
    "AnswerFormError",
    "ApiConnectionError",
    "ApiError",
    "ApiTimeoutError",
    "AuthenticationError",
    "BadRequestError",
    "BatchError",
    "BudgetError",
    "ConfigError",
    "ContentPolicyError",
    "ContextLengthError",
    "ConversationError",
    "DoesNotFitError",
    "DownloadError",
    "EngineBusyError",
    "EngineCrashedError",
    "EngineError",
    "EngineStalledError",
    "InterruptedStreamError",
    "InvalidOptionError",
    "LoadedOtherwiseError",
    "MissingDependencyError",
    "ModelClosedError",
    "ModelError",
    "ModelFileError",
    "ModelLoadError",
    "ModelNotFoundError",
    "NbllmError",
    "NotFoundError",
    "OverloadedError",
    "PermissionDeniedError",
    "ProtocolError",
    "QuantizationError",
    "QuotaError",
    "RateLimitError",
    "RouterError",
    "ServerError",
    "UnsupportedError",
]
