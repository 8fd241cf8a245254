# read_cose.rb JWKS MESSAGE: verifies a COSE_Sign1 with the key of the set (RFC 7517) that its header names; prints the payload.
require "base64"
require "cose"
require "json"

# The gem's own way to an OpenSSL key, changing an empty one, is gone since OpenSSL 3.
class Key < COSE::Key::EC2
  def to_pkey
    algorithm = [OpenSSL::ASN1::ObjectId("id-ecPublicKey"), OpenSSL::ASN1::ObjectId("prime256v1")]
    OpenSSL::PKey.read(OpenSSL::ASN1::Sequence(
      [OpenSSL::ASN1::Sequence(algorithm), OpenSSL::ASN1::BitString("\x04".b + x + y)]).to_der)
  end
end

message = COSE::Sign1.deserialize(File.binread(ARGV[1]))
jwk = JSON.parse(File.read(ARGV[0]))["keys"].find { |one| one["kid"] == message.headers.kid }
abort "no key #{message.headers.kid}" unless jwk && jwk["kty"] == "EC" && jwk["crv"] == "P-256"
point = %w[x y].to_h { |name| [name.to_sym, Base64.urlsafe_decode64(jwk[name])] }
key = Key.new(kid: message.headers.kid, alg: COSE::Algorithm.by_name("ES256").id,
              crv: COSE::Key::Curve.by_name("P-256").id, **point)
message.verify(key)
$stdout.binmode.write(message.payload)
