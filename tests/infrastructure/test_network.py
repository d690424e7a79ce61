"""The network of packing jobs: nothing comes in, nothing costs while idle, or the user's own."""

import pytest

from tests.support.expanded_template import Stack, with_parameters

OWN = {"SubnetIds": "subnet-0a1b2c3d,subnet-0a1b2c3e", "SecurityGroupIds": "sg-0a1b2c3d"}


def in_ec2(stack: Stack) -> dict[str, str]:
    return {
        name: resource["Type"]
        for name, resource in stack.template["Resources"].items()
        if resource["Type"].startswith("AWS::EC2::")
    }


def test_nothing_comes_in_and_only_https_goes_out(stack: Stack) -> None:
    groups = stack.of_type("AWS::EC2::SecurityGroup")
    assert list(groups) == ["NoInbound"]
    assert "SecurityGroupIngress" not in groups["NoInbound"]
    assert not stack.of_type("AWS::EC2::SecurityGroupIngress")
    [out] = groups["NoInbound"]["SecurityGroupEgress"]
    assert (out["IpProtocol"], out["FromPort"], out["ToPort"]) == ("tcp", 443, 443)


def test_pictures_travel_by_the_gateway_of_s3(stack: Stack) -> None:
    [endpoint] = stack.of_type("AWS::EC2::VPCEndpoint").values()
    assert endpoint["VpcEndpointType"] == "Gateway"
    assert endpoint["ServiceName"] == "com.amazonaws.us-east-1.s3"
    tables = {
        association["RouteTableId"]
        for association in stack.of_type("AWS::EC2::SubnetRouteTableAssociation").values()
    }
    assert set(endpoint["RouteTableIds"]) == tables


def test_nothing_in_the_network_is_billed_by_the_hour(stack: Stack) -> None:
    """NAT gateways, interface endpoints and reserved addresses are."""
    assert set(in_ec2(stack).values()) == {
        "AWS::EC2::VPC",
        "AWS::EC2::InternetGateway",
        "AWS::EC2::VPCGatewayAttachment",
        "AWS::EC2::Subnet",
        "AWS::EC2::RouteTable",
        "AWS::EC2::Route",
        "AWS::EC2::SubnetRouteTableAssociation",
        "AWS::EC2::VPCEndpoint",
        "AWS::EC2::SecurityGroup",
    }


def test_jobs_run_in_the_stack_s_network_unless_told_otherwise(stack: Stack) -> None:
    compute = stack.properties("PackingCompute")["ComputeResources"]
    assert compute["Subnets"] == [stack.ref("SubnetA"), stack.ref("SubnetB")]
    assert compute["SecurityGroupIds"] == [stack.ref("NoInbound")]
    job = stack.properties("JobDefinition")["ContainerProperties"]
    assert job["NetworkConfiguration"] == {"AssignPublicIp": "ENABLED"}


def test_jobs_run_in_the_user_s_subnets_and_no_network_is_made(stack: Stack) -> None:
    own = with_parameters(stack, **OWN)
    compute = own.properties("PackingCompute")["ComputeResources"]
    assert compute["Subnets"] == OWN["SubnetIds"].split(",")
    assert compute["SecurityGroupIds"] == [OWN["SecurityGroupIds"]]
    job = own.properties("JobDefinition")["ContainerProperties"]
    assert job["NetworkConfiguration"] == {"AssignPublicIp": "DISABLED"}
    assert not own.holds("MakesNetwork")


@pytest.mark.parametrize("part", ["Resources", "Outputs"])
def test_what_needs_the_stack_s_network_is_made_with_it_only(stack: Stack, part: str) -> None:
    network = in_ec2(stack)
    for name, entry in stack.template[part].items():
        if name in network:
            assert entry["Condition"] == "MakesNetwork"
        else:
            assert not set(entry.get("DependsOn", [])) & network.keys()


def test_subnets_without_security_groups_are_refused(stack: Stack) -> None:
    rule = stack.template["Rules"]["SubnetsHaveSecurityGroups"]
    [assertion] = rule["Assertions"]
    given = with_parameters(stack, **OWN)
    assert given.holds(rule["RuleCondition"])
    assert given.holds(assertion["Assert"])
    forgotten = with_parameters(stack, SubnetIds=OWN["SubnetIds"])
    assert not forgotten.holds(assertion["Assert"])
    assert not stack.holds(rule["RuleCondition"])
