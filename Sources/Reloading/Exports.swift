// What a service that imports Reloading alone has to be able to name.
@_exported public import struct ReloadCore.HandlerArtifact
@_exported public import struct ReloadProtocol.BrokerFailure
@_exported public import struct ReloadProtocol.PluginCallFailure
@_exported public import struct ReloadProtocol.ReloadCode
@_exported public import struct ReloadProtocol.ReloadError
